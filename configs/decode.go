package configs

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// A Setting is one field of a struct that Load reads.
type Setting struct {
	Key      string
	Required bool
	Enum     []string // the words allowed, nil: any
	Field    reflect.StructField
}

// Settings gives the settings of a struct type, in the order of its fields.
func Settings(t reflect.Type) []Setting {
	var list []Setting
	for f := range t.Fields() {
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key == "" || key == "-" {
			continue
		}
		s := Setting{Key: key, Required: options == "required", Field: f}
		if words := f.Tag.Get("enum"); words != "" {
			s.Enum = strings.Split(words, ",")
		}
		list = append(list, s)
	}
	return list
}

func (d *Doc) document(root ast.Node, v reflect.Value) {
	if _, null := root.(*ast.NullNode); null || root == nil { // "~", or comments alone
		d.missing("", v.Type(), nil)
		return
	}
	d.value("", root, v, nil)
}

// value reads the node n, which stands at path, into v.
func (d *Doc) value(path string, n ast.Node, v reflect.Value, enum []string) {
	if path != "" {
		d.places[path] = nodePlace(n)
	}
	if _, null := n.(*ast.NullNode); null && nullable(v.Type()) {
		delete(d.places, path) // "limits:" with every line below it commented out: as if it were not there
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	entries, isMapping := mapping(n)
	_, isSequence := n.(*ast.SequenceNode)
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok && !isSequence && (!isMapping || v.Kind() != reflect.Struct) {
		d.word(path, n, text)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(path, n, entries, isMapping, v)
	case reflect.Map:
		d.mapOf(path, n, entries, isMapping, v)
	case reflect.Slice:
		d.slice(path, n, v)
	default:
		d.scalar(path, n, v, enum)
	}
}

// nullable reports whether "key:" without a value can stand for "not set".
func nullable(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Slice || t.Kind() == reflect.Map
}

func mapping(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, true
	}
	return nil, false
}

func (d *Doc) structure(path string, n ast.Node, entries []*ast.MappingValueNode, isMapping bool, v reflect.Value) {
	settings := Settings(v.Type())
	if !isMapping {
		d.fail(path, "%s instead of settings (write one or more of: %s)", kind(n), keys(settings))
		return
	}
	seen := map[string]bool{}
	for _, e := range entries {
		key, ok := d.key(path, e, seen)
		if !ok {
			continue
		}
		i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == key })
		if i < 0 {
			p := nodePlace(e.Key)
			d.errorAt(p.line, p.column, "unknown key %q (%s)", key, advice(key, settings))
			continue
		}
		d.value(join(path, key), e.Value, v.FieldByIndex(settings[i].Field.Index), settings[i].Enum)
	}
	d.missing(path, v.Type(), seen)
}

// key gives the key of an entry, unless it is no key or was seen before.
func (d *Doc) key(path string, e *ast.MappingValueNode, seen map[string]bool) (string, bool) {
	p := nodePlace(e.Key)
	key, ok := plain(e.Key)
	switch {
	case !ok:
		d.errorAt(p.line, p.column, "a key must be one word")
		return "", false
	case seen[key]:
		d.errorAt(p.line, p.column, "%q stands here a second time (remove one)", key)
		return "", false
	}
	seen[key] = true
	return key, true
}

func (d *Doc) missing(path string, t reflect.Type, seen map[string]bool) {
	for _, s := range Settings(t) {
		if s.Required && !seen[s.Key] {
			d.fail(join(path, s.Key), "%s is missing", s.Key)
		}
	}
}

func (d *Doc) mapOf(path string, n ast.Node, entries []*ast.MappingValueNode, isMapping bool, v reflect.Value) {
	if !isMapping {
		d.fail(path, "%s instead of names with values (write each as \"name: value\")", kind(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	seen := map[string]bool{}
	for _, e := range entries {
		if key, ok := d.key(path, e, seen); ok {
			element := reflect.New(v.Type().Elem()).Elem()
			d.value(join(path, key), e.Value, element, nil)
			v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), element)
		}
	}
}

func (d *Doc) slice(path string, n ast.Node, v reflect.Value) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fail(path, "%s instead of a list (write each entry on a line of its own, after \"- \")", kind(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values)))
	for i, e := range list.Values {
		d.value(fmt.Sprintf("%s[%d]", path, i), e, v.Index(i), nil)
	}
}

func (d *Doc) word(path string, n ast.Node, into encoding.TextUnmarshaler) {
	text, ok := plain(n)
	if !ok {
		d.fail(path, "%s instead of one value", kind(n))
		return
	}
	if err := into.UnmarshalText([]byte(text)); err != nil {
		d.fail(path, "%v", err)
	}
}

func (d *Doc) scalar(path string, n ast.Node, v reflect.Value, enum []string) {
	text, ok := plain(n)
	if !ok {
		d.fail(path, "%s instead of one value", kind(n))
		return
	}
	if len(enum) > 0 && !slices.Contains(enum, text) {
		d.fail(path, "%q is not known here (write one of: %s)", text, strings.Join(enum, ", "))
		return
	}
	if err := setScalar(v, n, text); err != nil {
		d.fail(path, "%v", err)
	}
}

func setScalar(v reflect.Value, n ast.Node, text string) error {
	if v.Type() == reflect.TypeFor[time.Duration]() {
		t, err := ParseDuration(text)
		v.SetInt(int64(t))
		return err
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil || text != strconv.FormatInt(i, 10) {
			return fmt.Errorf("%q is not a whole number in reach (write it in decimal digits)", text)
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		i, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil || text != strconv.FormatUint(i, 10) {
			return fmt.Errorf("%q is not a whole number from zero up in reach (write it in decimal digits)", text)
		}
		v.SetUint(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f-f != 0 { // infinite or not a number
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetFloat(f)
	default:
		panic(fmt.Sprintf("configs: a field of type %s cannot be read", v.Type()))
	}
	return nil
}

// plain gives the text of a value that is a single one. Numbers and words like true are text where text is wanted, byte
// for byte: "gateway: 007" is the name 007.
func plain(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "settings stand here"
	case *ast.SequenceNode:
		return "a list stands here"
	case *ast.NullNode:
		return "nothing stands here"
	}
	return "a single value stands here"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func keys(settings []Setting) string {
	var list []string
	for _, s := range settings {
		list = append(list, s.Key)
	}
	return strings.Join(list, ", ")
}

// advice names the key that was probably meant, or else all that there are.
func advice(key string, settings []Setting) string {
	for _, s := range settings {
		if near(strings.ToLower(key), s.Key) {
			return fmt.Sprintf("did you mean %q?", s.Key)
		}
	}
	return "known here: " + keys(settings)
}

// near reports whether one can be had from the other by one change: a character more, less or other, or two swapped.
func near(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 || a == "" {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) < len(b) {
		return a[i:] == b[i+1:]
	}
	if i == len(a) || a[i+1:] == b[i+1:] {
		return true
	}
	return i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}
