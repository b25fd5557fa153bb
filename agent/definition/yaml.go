package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const (
	// yamlPiece is how much YAML is parsed at once, in bytes: the parser's time and memory grow faster than its input. A large
	// document is cut where members of its mappings begin.
	yamlPiece = 8 << 10
	// maxWholeYAML bounds what cannot be cut so: documents with anchors, or in flow style.
	maxWholeYAML = 4 << 20
	// maxAliased bounds the values that aliases stand for.
	maxAliased = 1 << 17
)

func readYAML(file string, data []byte) (*node, error) {
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	r := &yamlReader{file: file, budget: maxNodes}
	if len(data) > yamlPiece && !anchors(data) {
		if n, ok := r.pieces(data); ok {
			return n, nil
		}
		*r = yamlReader{file: file, budget: maxNodes}
	}
	if len(data) > maxWholeYAML {
		return nil, &Error{File: file, What: fmt.Sprintf(
			"YAML of more than %d bytes must be in block style without anchors and faults (convert it to JSON, which has no such limit)", maxWholeYAML)}
	}
	return r.document(data, 0)
}

// anchors reports whether there may be an anchor or an alias, which must be seen with what they refer to.
func anchors(data []byte) bool {
	return regexp.MustCompile(`(?m)(^|[\s\[,:-])[&*][A-Za-z0-9_-]+\s*($|[,\]}{\["'>|A-Za-z0-9])`).Match(data) || bytes.Contains(data, []byte("<<:"))
}

// A yamlReader makes a tree of YAML.
type yamlReader struct {
	file    string
	budget  int
	anchors map[string]ast.Node
	aliased int             // values that stand for aliases
	within  map[string]bool // anchors being written out: one inside itself has no end
}

// pieces reads a document in block style piece by piece; false if it is not, or not without a fault.
func (r *yamlReader) pieces(data []byte) (*node, bool) {
	root := newMap()
	return root, r.block(root, piece{data, 0}, 0) && len(root.kids) > 0
}

// block reads the members of a mapping in block style: large ones by themselves, small ones together.
func (r *yamlReader) block(into *node, p piece, depth int) bool {
	for _, q := range gather(split(p.text, indentOf(p.text), p.line)) {
		if len(q.text) > yamlPiece && depth < maxDepth {
			if key, rest, ok := headOf(q); ok {
				under := &node{kind: isMap, line: int32(q.line + 1)}
				if into.get(key) != nil || !r.block(under, rest, depth+1) {
					return false
				}
				into.kids = append(into.kids, kid{key, under})
				continue
			}
		}
		if !r.piece(into, q) {
			return false
		}
	}
	return true
}

// piece reads one piece into the mapping that it belongs to.
func (r *yamlReader) piece(into *node, p piece) bool {
	n, err := r.document(p.text, p.line)
	if err != nil || !n.isMap() {
		return err == nil && n.kind == isNull // comments alone
	}
	for _, k := range n.kids {
		if len(into.kids) < fewKeys && into.get(k.key) != nil {
			return false
		}
		into.kids = append(into.kids, k)
	}
	return true
}

// A piece is some lines, and how many lines stand before.
type piece struct {
	text []byte
	line int
}

// split cuts where a line begins with exactly this indentation and something that can be a key.
func split(data []byte, indent, line int) []piece {
	var out []piece
	start, startLine := 0, line
	for at := 0; at < len(data); line++ {
		end := len(data)
		if nl := bytes.IndexByte(data[at:], '\n'); nl >= 0 {
			end = at + nl + 1
		}
		if at > start && begins(data[at:end], indent) {
			out = append(out, piece{data[start:at], startLine})
			start, startLine = at, line
		}
		at = end
	}
	return append(out, piece{data[start:], startLine})
}

// begins reports whether a line has this indentation and a key behind it.
func begins(line []byte, indent int) bool {
	rest := bytes.TrimLeft(line, " ")
	if len(line)-len(rest) != indent || len(rest) == 0 {
		return false
	}
	switch rest[0] {
	case '#', '\r', '\n', '\t', '-', '}', ']', '%', '.', '|', '>', ',':
		return false
	}
	return true
}

// gather joins neighbours as long as they are small.
func gather(list []piece) []piece {
	var out []piece
	for _, p := range list {
		if n := len(out); n > 0 && len(out[n-1].text)+len(p.text) <= yamlPiece {
			out[n-1].text = out[n-1].text[:len(out[n-1].text)+len(p.text)] // they lie side by side
			continue
		}
		out = append(out, p)
	}
	return out
}

// headOf takes "key:" off a piece whose value is a mapping on the lines below it.
func headOf(p piece) (key string, rest piece, ok bool) {
	line, text, _ := bytes.Cut(p.text, []byte("\n"))
	name, ok := strings.CutSuffix(strings.TrimSpace(string(line)), ":")
	indent := indentOf(text)
	if !ok || name == "" || strings.ContainsAny(name, "\"'#{}[]:&*!|>%@`, ") || indent <= len(line)-len(bytes.TrimLeft(line, " ")) {
		return "", piece{}, false
	}
	for l := range bytes.Lines(text) {
		if begins(l, indent) {
			return name, piece{text, p.line + 1}, true
		}
		if len(bytes.TrimSpace(l)) > 0 && bytes.TrimLeft(l, " ")[0] != '#' {
			break // a list, or what cannot be cut
		}
	}
	return "", piece{}, false
}

// indentOf is the indentation of the first line that says something.
func indentOf(text []byte) int {
	for line := range bytes.Lines(text) {
		rest := bytes.TrimLeft(line, " ")
		if len(bytes.TrimSpace(rest)) > 0 && rest[0] != '#' {
			return len(line) - len(rest)
		}
	}
	return 0
}

// document parses YAML and makes a tree of it. before is how many lines stand before data.
func (r *yamlReader) document(data []byte, before int) (n *node, err error) {
	defer func() {
		if p := recover(); p != nil { // the parser is not ours, and what it reads is not either
			n, err = nil, &Error{File: r.file, Line: before + 1, What: fmt.Sprintf("YAML that cannot be read (%v)", p)}
		}
	}()
	if err := tooDeep(data); err != nil {
		return nil, &Error{File: r.file, Line: before + 1, What: err.Error()}
	}
	f, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, r.syntax(err, before)
	}
	r.anchors, r.within = map[string]ast.Node{}, map[string]bool{}
	var body ast.Node
	for _, d := range f.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType || d.Body.Type() == ast.CommentGroupType {
			continue
		}
		if body != nil {
			return nil, &Error{File: r.file, Line: before + lineOf(d.Body), What: "there are several YAML documents in it (keep one)"}
		}
		body = d.Body
	}
	if body == nil {
		return &node{}, nil
	}
	return r.node(body, "", 0, before)
}

// tooDeep refuses brackets and indentation that the parser would follow down its stack.
func tooDeep(data []byte) error {
	depth, most, indent := 0, 0, 0
	for line := range bytes.Lines(data) {
		indent = max(indent, len(line)-len(bytes.TrimLeft(line, " -?")))
	}
	for _, c := range data {
		switch c {
		case '[', '{':
			depth++
			most = max(most, depth)
		case ']', '}':
			depth = max(0, depth-1)
		}
	}
	if most > 10*maxDepth || indent > 10*maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	return nil
}

func (r *yamlReader) syntax(err error, before int) error {
	what, line := err.Error(), 0
	if y, ok := errors.AsType[yaml.Error](err); ok {
		what = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			line = before + t.Position.Line
		}
	}
	return &Error{File: r.file, Line: line, What: "not YAML: " + what}
}

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func (r *yamlReader) fail(n ast.Node, at string, before int, format string, args ...any) error {
	return &Error{File: r.file, Line: before + lineOf(n), At: at, What: fmt.Sprintf(format, args...)}
}

func (r *yamlReader) node(y ast.Node, at string, depth, before int) (*node, error) {
	if r.budget--; r.budget < 0 {
		return nil, r.fail(y, at, before, "%v", errTooMany)
	}
	if depth > maxDepth {
		return nil, r.fail(y, at, before, "nested deeper than %d", maxDepth)
	}
	n := &node{line: int32(before + lineOf(y))}
	switch y := y.(type) {
	case *ast.MappingNode:
		n.kind = isMap
		return n, r.mapping(n, y.Values, at, depth, before)
	case *ast.MappingValueNode:
		n.kind = isMap
		return n, r.mapping(n, []*ast.MappingValueNode{y}, at, depth, before)
	case *ast.SequenceNode:
		n.kind = isList
		for i, v := range y.Values {
			item, err := r.node(v, at+"/"+strconv.Itoa(i), depth+1, before)
			if err != nil {
				return nil, err
			}
			n.add(item)
		}
		return n, nil
	case *ast.AnchorNode:
		r.anchors[nameOf(y.Name)] = y.Value
		return r.node(y.Value, at, depth+1, before)
	case *ast.AliasNode:
		return r.alias(y, at, depth, before)
	case *ast.TagNode:
		return r.tagged(y, at, depth, before)
	}
	return n, r.scalar(n, y, at, before)
}

func nameOf(n ast.Node) string {
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}

// alias writes out what an alias refers to.
func (r *yamlReader) alias(y *ast.AliasNode, at string, depth, before int) (*node, error) {
	name := nameOf(y.Value)
	value, ok := r.anchors[name]
	if !ok || r.within[name] {
		return nil, r.fail(y, at, before, "the alias *%s refers to nothing that stands before it", name)
	}
	r.within[name] = true
	defer delete(r.within, name)
	was := r.budget
	n, err := r.node(value, at, depth+1, before)
	if r.aliased += was - r.budget; err == nil && r.aliased > maxAliased {
		return nil, r.fail(y, at, before, "%v", errTooMany)
	}
	return n, err
}

// tagged takes !!str as it is meant and ignores other tags.
func (r *yamlReader) tagged(y *ast.TagNode, at string, depth, before int) (*node, error) {
	if y.Value == nil {
		return &node{kind: isString, line: int32(before + lineOf(y))}, nil
	}
	n, err := r.node(y.Value, at, depth+1, before)
	if err == nil && y.Start != nil && y.Start.Value == "!!str" && n.kind != isMap && n.kind != isList {
		*n = node{kind: isString, line: n.line, text: y.Value.GetToken().Value}
	}
	return n, err
}

func (r *yamlReader) mapping(n *node, values []*ast.MappingValueNode, at string, depth, before int) error {
	seen := make(map[string]int, len(values))
	for _, v := range values {
		if v.Key.IsMergeKey() {
			if err := r.merge(n, seen, v.Value, at, depth, before); err != nil {
				return err
			}
			continue
		}
		key, ok := keyOf(v.Key)
		if !ok {
			return r.fail(v.Key, at, before, "a key that is no word")
		}
		value, err := r.node(v.Value, at+"/"+escapePointer(key), depth+1, before)
		if err != nil {
			return err
		}
		if i, twice := seen[key]; twice {
			n.kids[i].node = value
			continue
		}
		seen[key] = len(n.kids)
		n.kids = append(n.kids, kid{key, value})
	}
	return nil
}

// merge adds the members of "<<: *name" that are not there yet.
func (r *yamlReader) merge(n *node, seen map[string]int, value ast.Node, at string, depth, before int) error {
	from, err := r.node(value, at, depth+1, before)
	if err != nil {
		return err
	}
	for _, one := range append([]kid{{"", from}}, from.items()...) {
		for _, k := range one.node.members() {
			if _, there := seen[k.key]; !there {
				seen[k.key] = len(n.kids)
				n.kids = append(n.kids, k)
			}
		}
	}
	return nil
}

func keyOf(k ast.Node) (string, bool) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return k.GetToken().Value, true
	case *ast.MappingKeyNode:
		return keyOf(k.Value)
	case *ast.AnchorNode:
		return keyOf(k.Value)
	case *ast.TagNode:
		return keyOf(k.Value)
	}
	return "", false
}

// isJSONNumber reports whether a number of YAML is spelled as one of JSON's.
func isJSONNumber(s string) bool {
	return s != "" && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') && json.Valid([]byte(s))
}

func (r *yamlReader) scalar(n *node, y ast.Node, at string, before int) error {
	switch y := y.(type) {
	case nil, *ast.NullNode:
		return nil
	case *ast.BoolNode:
		*n = node{kind: isBool, line: n.line, text: strconv.FormatBool(y.Value)}
	case *ast.StringNode:
		n.kind, n.text = isString, y.Value
	case *ast.LiteralNode:
		n.kind, n.text = isString, y.Value.Value
	case *ast.IntegerNode:
		n.kind, n.text = isNumber, y.Token.Value
		if !isJSONNumber(n.text) {
			n.text = fmt.Sprint(y.Value)
		}
	case *ast.FloatNode:
		n.kind, n.text = isNumber, y.Token.Value
		if !isJSONNumber(n.text) {
			n.text = strconv.FormatFloat(y.Value, 'g', -1, 64)
		}
	case *ast.InfinityNode, *ast.NanNode: // JSON has none
		n.kind, n.text = isString, y.GetToken().Value
	default:
		return r.fail(y, at, before, "a value that JSON does not have")
	}
	if n.kind == isNumber && !isJSONNumber(n.text) {
		n.kind = isString
	}
	return nil
}
