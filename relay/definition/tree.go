package definition

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// indexFrom is the number of members from which an object keeps an index: most objects are small, and a map for each of
// a million would take more memory than the document.
const indexFrom = 12

// An object is a JSON object that keeps the order of its members. Values are *object, []any, string, json.Number, bool
// and nil. The nil object is empty.
type object struct {
	members []member
	index   map[string]int
}

type member struct {
	key   string
	value any
}

// obj makes an object of keys and values in turn.
func obj(keysAndValues ...any) *object {
	o := &object{}
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		o.set(keysAndValues[i].(string), keysAndValues[i+1])
	}
	return o
}

func (o *object) find(key string) int {
	if o == nil {
		return -1
	}
	if o.index != nil {
		if i, ok := o.index[key]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(o.members, func(m member) bool { return m.key == key })
}

func (o *object) get(key string) any {
	if i := o.find(key); i >= 0 {
		return o.members[i].value
	}
	return nil
}

func (o *object) has(key string) bool { return o.find(key) >= 0 }

func (o *object) len() int {
	if o == nil {
		return 0
	}
	return len(o.members)
}

// all is the members in order. It must not be changed while it is walked.
func (o *object) all() []member {
	if o == nil {
		return nil
	}
	return o.members
}

func (o *object) set(key string, value any) {
	if i := o.find(key); i >= 0 {
		o.members[i].value = value
		return
	}
	o.members = append(o.members, member{key, value})
	if o.index != nil {
		o.index[key] = len(o.members) - 1
	} else if len(o.members) >= indexFrom {
		o.reindex()
	}
}

func (o *object) reindex() {
	o.index = nil
	if len(o.members) >= indexFrom {
		o.index = make(map[string]int, len(o.members))
		for i, m := range o.members {
			o.index[m.key] = i
		}
	}
}

// setDefault sets a member that is not there.
func (o *object) setDefault(key string, value any) {
	if !o.has(key) {
		o.set(key, value)
	}
}

func (o *object) remove(key string) {
	if i := o.find(key); i >= 0 {
		o.members = slices.Delete(o.members, i, i+1)
		o.reindex()
	}
}

// object, list, text, number and flag give a member of that type, or the zero value.
func (o *object) object(key string) *object { v, _ := o.get(key).(*object); return v }
func (o *object) list(key string) []any     { v, _ := o.get(key).([]any); return v }
func (o *object) text(key string) string    { v, _ := o.get(key).(string); return v }
func (o *object) flag(key string) bool      { v, _ := o.get(key).(bool); return v }

func (o *object) number(key string) (json.Number, bool) {
	v, ok := o.get(key).(json.Number)
	return v, ok
}

// sorted puts the members into the order of the keys given; others follow in their own order.
func (o *object) sorted(keys ...string) *object {
	rank := func(key string) int {
		if i := slices.Index(keys, key); i >= 0 {
			return i
		}
		return len(keys)
	}
	slices.SortStableFunc(o.members, func(a, b member) int { return rank(a.key) - rank(b.key) })
	o.reindex()
	return o
}

// byKey orders the members by their keys.
func (o *object) byKey() *object {
	slices.SortStableFunc(o.members, func(a, b member) int { return strings.Compare(a.key, b.key) })
	o.reindex()
	return o
}

// shallow copies the object, not its values.
func (o *object) shallow() *object {
	c := &object{members: slices.Clone(o.all())}
	c.reindex()
	return c
}

// copyOf copies a value deeply.
func copyOf(v any) any {
	switch v := v.(type) {
	case *object:
		c := &object{members: make([]member, len(v.members))}
		for i, m := range v.members {
			c.members[i] = member{m.key, copyOf(m.value)}
		}
		c.reindex()
		return c
	case []any:
		c := make([]any, len(v))
		for i := range v {
			c[i] = copyOf(v[i])
		}
		return c
	}
	return v
}

// equal compares values; the order of members does not matter.
func equal(a, b any) bool {
	switch a := a.(type) {
	case *object:
		b, ok := b.(*object)
		if !ok || a.len() != b.len() {
			return false
		}
		for _, m := range a.all() {
			if !b.has(m.key) || !equal(m.value, b.get(m.key)) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	}
	_, isObject := b.(*object)
	_, isList := b.([]any)
	return !isObject && !isList && a == b
}

// texts are the strings of a list.
func texts(list []any) []string {
	var out []string
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// anys is the other way.
func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

// num is a JSON number.
func num(n int) json.Number { return json.Number(strconv.Itoa(n)) }

// pointer appends segments to a JSON pointer (RFC 6901).
func pointer(base string, segments ...string) string {
	for _, s := range segments {
		base += "/" + escapePointer(s)
	}
	return base
}

func escapePointer(s string) string {
	if !strings.ContainsAny(s, "~/") {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "~", "~0"), "/", "~1")
}

func unescapePointer(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "~1", "/"), "~0", "~")
}

// encode writes a tree as JSON: indented by indent, or in one line.
func encode(v any, indent string) []byte {
	var b bytes.Buffer
	e := encoder{out: &b, indent: indent}
	e.value(v, 0)
	if indent != "" {
		b.WriteByte('\n')
	}
	return b.Bytes()
}

type encoder struct {
	out    *bytes.Buffer
	indent string
}

func (e *encoder) line(depth int) {
	if e.indent != "" {
		e.out.WriteByte('\n')
		for range depth {
			e.out.WriteString(e.indent)
		}
	}
}

func (e *encoder) value(v any, depth int) {
	switch v := v.(type) {
	case *object:
		e.out.WriteByte('{')
		for i, m := range v.all() {
			if i > 0 {
				e.out.WriteByte(',')
			}
			e.line(depth + 1)
			e.text(m.key)
			e.out.WriteByte(':')
			if e.indent != "" {
				e.out.WriteByte(' ')
			}
			e.value(m.value, depth+1)
		}
		if v.len() > 0 {
			e.line(depth)
		}
		e.out.WriteByte('}')
	case []any:
		e.out.WriteByte('[')
		for i, one := range v {
			if i > 0 {
				e.out.WriteByte(',')
			}
			e.line(depth + 1)
			e.value(one, depth+1)
		}
		if len(v) > 0 {
			e.line(depth)
		}
		e.out.WriteByte(']')
	case string:
		e.text(v)
	case json.Number:
		e.out.WriteString(v.String())
	case bool:
		e.out.WriteString(strconv.FormatBool(v))
	default:
		e.out.WriteString("null")
	}
}

func (e *encoder) text(s string) {
	enc := json.NewEncoder(e.out)
	enc.SetEscapeHTML(false) // files are read by people, and no browser sees them as a page
	_ = enc.Encode(s)        // to memory
	e.out.Truncate(e.out.Len() - 1)
}
