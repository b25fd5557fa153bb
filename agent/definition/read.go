package definition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A document is one that was read, of a known form.
type document struct {
	file    string
	root    *node
	kind    form
	version string // as the document has it
}

type form uint8

const (
	swagger2 form = iota + 1
	openAPI3
	postman  // v2.0, v2.1
	postman1 // v1
)

func (d *document) form() string {
	switch d.kind {
	case postman, postman1:
		return "Postman collection v" + d.version
	}
	return "OpenAPI " + d.version
}

func (d *document) fail(n *node, at, format string, args ...any) error {
	e := &Error{File: d.file, At: at, What: fmt.Sprintf(format, args...)}
	if n != nil {
		e.Line = int(n.line)
	}
	return e
}

// read reads a document of any form that is known.
func read(name string, data []byte) (*document, error) {
	if len(data) > MaxSize {
		return nil, &Error{File: name, What: fmt.Sprintf("it has more than %d bytes", MaxSize)}
	}
	data, err := utf8Of(data)
	if err != nil {
		return nil, &Error{File: name, What: err.Error()}
	}
	root, err := readTree(name, data)
	if err != nil {
		return nil, err
	}
	return recognise(name, root)
}

// readTree reads JSON, or YAML where it does not look like JSON or is named otherwise.
func readTree(name string, data []byte) (*node, error) {
	text := bytes.TrimLeft(data, " \t\r\n")
	if len(text) == 0 {
		return nil, &Error{File: name, What: "it is empty"}
	}
	if text[0] != '{' && text[0] != '[' {
		return readYAML(name, data)
	}
	n, err := readJSON(name, data)
	if ext := strings.ToLower(filepath.Ext(name)); err != nil && (ext == ".yaml" || ext == ".yml") {
		return readYAML(name, data) // in flow style
	}
	return n, err
}

// utf8Of undoes the encodings that Windows' tools write.
func utf8Of(data []byte) ([]byte, error) {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte{0xef, 0xbb, 0xbf}):
		data = data[3:]
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	}
	if order != nil {
		units := make([]uint16, 0, len(data)/2)
		for data = data[2:]; len(data) >= 2; data = data[2:] {
			units = append(units, order.Uint16(data))
		}
		data = []byte(string(utf16.Decode(units)))
	}
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8 (save it as UTF-8)")
	}
	return data, nil
}

// recognise finds out what a document is.
func recognise(file string, root *node) (*document, error) {
	d := &document{file: file, root: root}
	if !root.isMap() {
		return nil, d.fail(root, "", "it is no definition: an OpenAPI document or a Postman collection is a mapping")
	}
	if inner := root.get("collection"); inner.isMap() && root.get("paths") == nil {
		d.root, root = inner, inner // as Postman's own API gives it
	}
	word := func(key string) string {
		if n := root.get(key); n != nil && (n.kind == isString || n.kind == isNumber) {
			return n.text
		}
		return ""
	}
	schema := root.get("info").str("schema")
	switch {
	case strings.HasPrefix(word("swagger"), "2"):
		d.kind, d.version = swagger2, "2.0"
	case strings.HasPrefix(word("openapi"), "3.0"), strings.HasPrefix(word("openapi"), "3.1"):
		d.kind, d.version = openAPI3, word("openapi")
	case strings.Contains(schema, "/v2.0"):
		d.kind, d.version = postman, "2.0"
	case strings.Contains(schema, "/v2"), root.get("item").isList() && root.get("info").isMap():
		d.kind, d.version = postman, "2.1"
	case root.get("requests").isList():
		d.kind, d.version = postman1, "1"
	case word("swagger") != "" || word("openapi") != "" || word("swaggerVersion") != "":
		return nil, d.fail(root, "", "its version %q is not known (known: OpenAPI 2.0, 3.0, 3.1)",
			word("swagger")+word("openapi")+word("swaggerVersion"))
	default:
		return nil, d.fail(root, "", "it is no definition: neither swagger, openapi nor a Postman collection's info and item are in it")
	}
	return d, nil
}
