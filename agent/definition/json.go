package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A jsonReader reads JSON into a tree. Of a member that is there twice the last counts, as everywhere.
type jsonReader struct {
	file   string
	data   []byte
	d      *json.Decoder
	line   int // of the byte at seen
	seen   int
	budget int
	names  map[string]string // one copy of each name
}

func readJSON(file string, data []byte) (*node, error) {
	r := &jsonReader{
		file: file, data: data, d: json.NewDecoder(bytes.NewReader(data)), line: 1, budget: maxNodes, names: map[string]string{},
	}
	r.d.UseNumber()
	n, err := r.value("", 0)
	if err == nil {
		if _, err = r.d.Token(); err == io.EOF {
			return n, nil
		}
		if err == nil {
			return nil, r.fail("", "something follows the end of the document (remove it)")
		}
		return nil, r.wrap("", err)
	}
	return nil, err
}

// here is the line that the decoder has come to.
func (r *jsonReader) here() int {
	at := min(int(r.d.InputOffset()), len(r.data))
	r.line += bytes.Count(r.data[r.seen:at], []byte("\n"))
	r.seen = at
	return r.line
}

func (r *jsonReader) fail(at, what string) error {
	return &Error{File: r.file, Line: r.here(), At: at, What: what}
}

func (r *jsonReader) wrap(at string, err error) error {
	line := r.here()
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line = 1 + bytes.Count(r.data[:min(int(syntax.Offset), len(r.data))], []byte("\n"))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Error{File: r.file, Line: line, At: at, What: "the document ends in the middle (is the file whole?)"}
	}
	return &Error{File: r.file, Line: line, At: at, What: fmt.Sprintf("not JSON: %v", err)}
}

func (r *jsonReader) value(at string, depth int) (*node, error) {
	t, err := r.d.Token()
	if err != nil {
		return nil, r.wrap(at, err)
	}
	if r.budget--; r.budget < 0 {
		return nil, r.fail(at, errTooMany.Error())
	}
	n := &node{line: int32(r.here())}
	switch t := t.(type) {
	case nil:
	case bool:
		*n = *newBool(t)
	case json.Number:
		n.kind, n.text = isNumber, t.String()
	case string:
		n.kind, n.text = isString, t
	case json.Delim:
		if depth >= maxDepth {
			return nil, r.fail(at, fmt.Sprintf("nested deeper than %d", maxDepth))
		}
		n.kind = isList
		if t == '{' {
			n.kind = isMap
		}
		return n, r.kids(n, at, depth)
	}
	return n, nil
}

// kids reads what stands between brackets. The pointer is written out for errors alone.
func (r *jsonReader) kids(n *node, at string, depth int) error {
	var index map[string]int // of the names in n, once they are many
	for r.d.More() {
		k := kid{}
		if n.kind == isMap {
			t, err := r.d.Token()
			if err != nil {
				return r.wrap(at, err)
			}
			name, _ := t.(string)
			k.key = r.name(name)
		}
		var err error
		if k.node, err = r.value("", depth+1); err != nil {
			if e, ok := errors.AsType[*Error](err); ok {
				n.kids = append(n.kids, k)
				e.At = step("", n, len(n.kids)-1) + e.At
			}
			return err
		}
		if n.kind == isMap && r.again(n, k, &index) {
			continue
		}
		n.kids = append(n.kids, k)
	}
	if _, err := r.d.Token(); err != nil {
		return r.wrap(at, err)
	}
	return nil
}

// fewKeys is how many names are looked through one by one.
const fewKeys = 16

// again replaces a member that is there already.
func (r *jsonReader) again(n *node, k kid, index *map[string]int) bool {
	if len(n.kids) < fewKeys {
		for i := range n.kids {
			if n.kids[i].key == k.key {
				n.kids[i].node = k.node
				return true
			}
		}
		return false
	}
	if *index == nil {
		*index = make(map[string]int, 2*fewKeys)
		for i := range n.kids {
			(*index)[n.kids[i].key] = i
		}
	}
	if i, there := (*index)[k.key]; there {
		n.kids[i].node = k.node
		return true
	}
	(*index)[k.key] = len(n.kids)
	return false
}

// maxNames bounds the names that are shared: those of the format recur, those of a document's own need not.
const maxNames = 1 << 16

func (r *jsonReader) name(s string) string {
	if one, ok := r.names[s]; ok {
		return one
	}
	if len(r.names) < maxNames {
		r.names[s] = s
	}
	return s
}
