package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	// MaxSize bounds a document, in bytes, as the agent ships it.
	MaxSize = 32 << 20
	// maxDepth bounds nesting: the deepest document known has 60 levels.
	maxDepth = 200
	// maxNodes bounds the values of a tree. 32 MB of the densest real documents have about three million; YAML aliases
	// could make any number of them.
	maxNodes = 6_000_000
)

// A SyntaxError says where a document cannot be read.
type SyntaxError struct {
	Line, Column int // from 1; 0: not known
	Reason       string
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

// readTree reads JSON or YAML. JSON is told by its first byte.
func readTree(data []byte) (*object, error) {
	if len(data) > MaxSize {
		return nil, &SyntaxError{Reason: fmt.Sprintf("the document has %d bytes; at most %d MB are read", len(data), MaxSize>>20)}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, &SyntaxError{1, 1, "the document is UTF-16; save it as UTF-8"}
	}
	if at := badUTF8(data); at >= 0 {
		return nil, at2(data, at, fmt.Sprintf("byte 0x%02x is not UTF-8; save the document as UTF-8", data[at]))
	}
	head := bytes.TrimLeft(data, " \t\r\n")
	var value any
	var err error
	switch {
	case len(head) == 0:
		return nil, &SyntaxError{1, 1, "the document is empty"}
	case head[0] == '{' || head[0] == '[':
		value, err = readJSON(data)
	default:
		value, err = readYAML(data)
	}
	if err != nil {
		return nil, err
	}
	root, ok := value.(*object)
	if !ok {
		return nil, &SyntaxError{1, 1, "the document is no object: an OpenAPI document or a Postman collection begins with one"}
	}
	return root, nil
}

func badUTF8(data []byte) int {
	for i := 0; i < len(data); {
		if data[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

func at2(data []byte, offset int, reason string) *SyntaxError {
	offset = max(0, min(offset, len(data)))
	before := data[:offset]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return &SyntaxError{line, column, reason}
}

// jsonReader builds the tree from tokens, so that order and bounds are kept.
type jsonReader struct {
	data  []byte
	dec   *json.Decoder
	nodes int
}

func readJSON(data []byte) (any, error) {
	r := &jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	r.dec.UseNumber()
	v, err := r.value(0)
	if err != nil {
		return nil, r.place(err)
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, at2(data, int(r.dec.InputOffset()), "there is text after the document's end")
	}
	return v, nil
}

func (r *jsonReader) place(err error) error {
	if place, ok := errors.AsType[*SyntaxError](err); ok {
		return place
	}
	offset := int(r.dec.InputOffset())
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = int(syntax.Offset) - 1
	}
	reason := strings.TrimPrefix(err.Error(), "json: ")
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		offset, reason = len(r.data), "the document ends too early"
	}
	return at2(r.data, offset, reason)
}

func (r *jsonReader) value(depth int) (any, error) {
	t, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	if r.nodes++; r.nodes > maxNodes {
		return nil, at2(r.data, int(r.dec.InputOffset()), fmt.Sprintf("the document has more than %d values", maxNodes))
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth >= maxDepth {
		return nil, at2(r.data, int(r.dec.InputOffset()), fmt.Sprintf("the document is nested more than %d levels deep", maxDepth))
	}
	if delim == '[' {
		list := []any{}
		for r.dec.More() {
			v, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = r.dec.Token()
		return list, err
	}
	o := &object{}
	for r.dec.More() {
		key, err := r.dec.Token()
		if err != nil {
			return nil, err
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		o.set(key.(string), v)
	}
	_, err = r.dec.Token()
	return o, err
}
