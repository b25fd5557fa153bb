package definition

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A node is a value of a document: JSON's six kinds, with members in their order. It is small, because a large document
// has millions.
type node struct {
	kind kind
	line int32
	text string // of a string; the JSON spelling of a number or a boolean
	kids []kid  // of a mapping or a list
}

type kid struct {
	key  string // "" in a list
	node *node
}

type kind uint8

const (
	isNull kind = iota
	isBool
	isNumber
	isString
	isMap
	isList
)

func newMap() *node            { return &node{kind: isMap} }
func newList() *node           { return &node{kind: isList} }
func newString(s string) *node { return &node{kind: isString, text: s} }

func newBool(b bool) *node { return &node{kind: isBool, text: strconv.FormatBool(b)} }

// get gives a member, or nil; also of nil, and of what is no mapping.
func (n *node) get(key string) *node {
	if n == nil || n.kind != isMap {
		return nil
	}
	for i := range n.kids {
		if n.kids[i].key == key {
			return n.kids[i].node
		}
	}
	return nil
}

// str gives a member that is a string, or "".
func (n *node) str(key string) string {
	if v := n.get(key); v != nil && v.kind == isString {
		return v.text
	}
	return ""
}

func (n *node) isMap() bool  { return n != nil && n.kind == isMap }
func (n *node) isList() bool { return n != nil && n.kind == isList }

// items gives the values of a list; of nil and of what is no list, none.
func (n *node) items() []kid {
	if !n.isList() {
		return nil
	}
	return n.kids
}

// members gives the members of a mapping; of nil and of what is no mapping, none.
func (n *node) members() []kid {
	if !n.isMap() {
		return nil
	}
	return n.kids
}

func (n *node) set(key string, v *node) {
	for i := range n.kids {
		if n.kids[i].key == key {
			n.kids[i].node = v
			return
		}
	}
	n.kids = append(n.kids, kid{key, v})
}

// with adds a member that is not there yet, and gives n.
func (n *node) with(key string, v *node) *node {
	n.kids = append(n.kids, kid{key, v})
	return n
}

func (n *node) del(key string) bool {
	had := len(n.kids)
	n.kids = slices.DeleteFunc(n.kids, func(k kid) bool { return k.key == key })
	return len(n.kids) < had
}

// add appends to a list.
func (n *node) add(v *node) { n.kids = append(n.kids, kid{"", v}) }

// copy is deep. It takes from budget one for each value, and gives nil when there is none left.
func (n *node) copy(budget *int) *node {
	if *budget--; *budget < 0 {
		return nil
	}
	out := *n
	out.kids = make([]kid, len(n.kids))
	for i, k := range n.kids {
		c := k.node.copy(budget)
		if c == nil {
			return nil
		}
		out.kids[i] = kid{k.key, c}
	}
	return &out
}

// at follows a JSON pointer (RFC 6901) and gives nil if there is nothing.
func (n *node) at(pointer string) *node {
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		step = unescapePointer(step)
		if n.isList() {
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(n.kids) {
				return nil
			}
			n = n.kids[i].node
			continue
		}
		if n = n.get(step); n == nil {
			return nil
		}
	}
	return n
}

func escapePointer(s string) string {
	if !strings.ContainsAny(s, "~/") {
		return s
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}

// unescapePointer also undoes percent-encoding, which a pointer in a "$ref" may have (RFC 6901 section 6).
func unescapePointer(s string) string {
	if strings.ContainsRune(s, '%') {
		s = unescapePercent(s)
	}
	if strings.ContainsRune(s, '~') {
		s = strings.NewReplacer("~1", "/", "~0", "~").Replace(s)
	}
	return s
}

// step is the pointer of a kid.
func step(at string, n *node, i int) string {
	if n.kind == isList {
		return at + "/" + strconv.Itoa(i)
	}
	return at + "/" + escapePointer(n.kids[i].key)
}

// appendJSON writes a document without blanks.
func (n *node) appendJSON(b []byte) []byte {
	switch n.kind {
	case isNull:
		return append(b, "null"...)
	case isString:
		return appendString(b, n.text)
	case isMap, isList:
		open, end := byte('{'), byte('}')
		if n.kind == isList {
			open, end = '[', ']'
		}
		b = append(b, open)
		for i, k := range n.kids {
			if i > 0 {
				b = append(b, ',')
			}
			if n.kind == isMap {
				b = append(appendString(b, k.key), ':')
			}
			b = k.node.appendJSON(b)
		}
		return append(b, end)
	default:
		return append(b, n.text...)
	}
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendEncoded(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendEncoded(b []byte, s string) []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("definition: a string cannot be encoded: " + err.Error()) // encoding/json takes every string
	}
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}
