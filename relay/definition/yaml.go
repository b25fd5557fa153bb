package definition

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxOpen bounds brackets that are open at once and dashes in a row, before the parser, which recurses, sees them.
const maxOpen = 2000

// yamlReader turns syntax nodes into the tree. Aliases are read anew each time they are used, and count each time.
type yamlReader struct {
	anchors map[string]ast.Node
	nodes   int
}

func readYAML(data []byte) (v any, err error) {
	if err := tooDeep(data); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil { // the parser's own mistakes must not end a relay
			v, err = nil, &SyntaxError{Reason: fmt.Sprintf("the YAML cannot be read: %v", p)}
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, yamlError(err)
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.DirectiveType {
			continue
		}
		if body != nil {
			return nil, nodeError(doc.Body, "there is a second YAML document; put one into a file")
		}
		body = doc.Body
	}
	if body == nil {
		return nil, &SyntaxError{1, 1, "the document is empty"}
	}
	r := &yamlReader{anchors: map[string]ast.Node{}}
	return r.value(body, 0)
}

// tooDeep refuses what would take the parser's stack.
func tooDeep(data []byte) error {
	open, runs := 0, 0
	for i, b := range data {
		switch b {
		case '[', '{':
			open++
		case ']', '}':
			open = max(0, open-1)
		case '-', '?', '!', '&': // "- - - a" nests as well
			if i+1 < len(data) && data[i+1] == ' ' {
				runs++
			}
		case ' ':
		default:
			runs = 0
		}
		if open > maxOpen || runs > maxOpen {
			return at2(data, i, "the document is nested too deeply")
		}
	}
	return nil
}

func yamlError(err error) error {
	out := &SyntaxError{Reason: err.Error()}
	if e, ok := errors.AsType[yaml.Error](err); ok {
		out.Reason = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			out.Line, out.Column = t.Position.Line, t.Position.Column
		}
	}
	return out
}

func nodeError(n ast.Node, reason string) error {
	out := &SyntaxError{Reason: reason}
	if t := n.GetToken(); t != nil && t.Position != nil {
		out.Line, out.Column = t.Position.Line, t.Position.Column
	}
	return out
}

func (r *yamlReader) value(n ast.Node, depth int) (any, error) {
	if r.nodes++; r.nodes > maxNodes {
		return nil, nodeError(n, fmt.Sprintf("the document has more than %d values; aliases may multiply them", maxNodes))
	}
	if depth >= maxDepth {
		return nil, nodeError(n, fmt.Sprintf("the document is nested more than %d levels deep", maxDepth))
	}
	switch n := n.(type) {
	case nil:
		return nil, nil
	case *ast.MappingNode:
		return r.mapping(n.Values, depth)
	case *ast.MappingValueNode:
		return r.mapping([]*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		list := []any{}
		for _, one := range n.Values {
			v, err := r.value(one, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case *ast.AnchorNode:
		r.anchors[n.Name.String()] = n.Value
		return r.value(n.Value, depth+1)
	case *ast.AliasNode:
		target, ok := r.anchors[n.Value.String()]
		if !ok {
			return nil, nodeError(n, fmt.Sprintf("there is no anchor &%s above", n.Value.String()))
		}
		return r.value(target, depth+1)
	case *ast.TagNode:
		return r.tagged(n, depth)
	}
	return scalar(n)
}

func (r *yamlReader) tagged(n *ast.TagNode, depth int) (any, error) {
	v, err := r.value(n.Value, depth+1)
	if err != nil || n.Start.Value != "!!str" {
		return v, err
	}
	if s, ok := v.(string); ok {
		return s, nil
	}
	if n.Value == nil {
		return "", nil
	}
	return n.Value.GetToken().Value, nil
}

func (r *yamlReader) mapping(values []*ast.MappingValueNode, depth int) (any, error) {
	o := &object{}
	for _, one := range values {
		v, err := r.value(one.Value, depth+1)
		if err != nil {
			return nil, err
		}
		if one.Key.IsMergeKey() {
			merge(o, v)
			continue
		}
		o.set(keyText(one.Key), v)
	}
	return o, nil
}

// merge does what "<<" asks for: members that are there already stay.
func merge(o *object, v any) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, one := range list {
		if from, ok := one.(*object); ok {
			for _, m := range from.all() {
				o.setDefault(m.key, m.value)
			}
		}
	}
}

// keyText is a key as it is written: 200 and yes are keys, not a number and a truth.
func keyText(k ast.MapKeyNode) string {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value
	case *ast.LiteralNode:
		return k.Value.Value
	}
	if t := k.GetToken(); t != nil {
		return strings.TrimSpace(t.Value)
	}
	return k.String()
}

func scalar(n ast.Node) (any, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.BoolNode:
		return n.Value, nil
	case *ast.NullNode, *ast.CommentGroupNode:
		return nil, nil
	case *ast.IntegerNode:
		return json.Number(fmt.Sprint(n.Value)), nil
	case *ast.FloatNode:
		if text := n.GetToken().Value; json.Valid([]byte(text)) {
			return json.Number(text), nil // 1.10 is a version to many, and 1.1 another one
		}
		if math.IsInf(n.Value, 0) || math.IsNaN(n.Value) {
			return n.GetToken().Value, nil
		}
		return json.Number(strconv.FormatFloat(n.Value, 'g', -1, 64)), nil
	case ast.ScalarNode:
		return n.GetToken().Value, nil // .inf, .nan and dates are text in JSON
	}
	return nil, nodeError(n, fmt.Sprintf("a %s is not understood here", n.Type()))
}
