package configs

import (
	"bytes"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds of a document. The parser recurses for each level and looks at all earlier keys of a mapping for each key,
// so a file of 1 MB could otherwise hold a stack overflow or a minute of work.
const (
	maxDepth = 32
	maxKeys  = 10_000
)

// parse gives the document's root, nil for an empty one, and whether it could be read.
func (d *Doc) parse(data []byte) (ast.Node, bool) {
	text, ok := d.text(data)
	if !ok {
		return nil, false
	}
	tokens := lexer.Tokenize(text)
	if !d.bounded(tokens) {
		return nil, false
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // duplicates are found by document, all at once
	if err != nil {
		d.syntax(err)
		return nil, false
	}
	var root ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if root != nil {
			p := nodePlace(doc.Body)
			d.errorAt(p.line, p.column, "a second document begins here (a file holds one: remove the line \"---\" and what follows)")
			return nil, false
		}
		root = doc.Body
	}
	return root, true
}

func (d *Doc) syntax(err error) {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		p := at.GetToken().Position
		hint := ""
		if message := at.GetMessage(); strings.Contains(message, "'\t'") || strings.Contains(message, "tab character") {
			hint = " (a tab cannot indent in YAML: use spaces)"
		}
		d.errorAt(p.Line, p.Column, "not valid YAML: %s%s", strings.ReplaceAll(at.GetMessage(), "\t", `\t`), hint)
		return
	}
	d.errorAt(1, 1, "not valid YAML: %v", err)
}

// text checks what can be checked before YAML begins, and gives the text with LF at the ends of lines.
func (d *Doc) text(data []byte) (string, bool) {
	switch {
	case len(data) > MaxSize:
		d.errorAt(1, 1, "the file has %d bytes, more than %d (is it the right file?)", len(data), MaxSize)
		return "", false
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		d.errorAt(1, 1, "the file is UTF-16 (save it as UTF-8; in PowerShell: Set-Content -Encoding utf8)")
		return "", false
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	line, column := 1, 1
	for rest := data; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if !d.character(r, n, line, column) {
			return "", false
		}
		rest = rest[n:]
		if column++; r == '\n' {
			line, column = line+1, 1
		}
	}
	return string(data), true
}

// character refuses what an editor shows differently from how it is read: the file is what a security team reviews.
func (d *Doc) character(r rune, size, line, column int) bool {
	switch {
	case r == utf8.RuneError && size == 1:
		d.errorAt(line, column, "not UTF-8 (save the file as UTF-8)")
	case r == '\n' || r == '\t':
		return true
	case unicode.IsControl(r), r == '\u2028', r == '\u2029':
		d.errorAt(line, column, "control character %U (remove it)", r)
	case unicode.Is(unicode.Cf, r):
		d.errorAt(line, column, "invisible character %U (remove it)", r)
	default:
		return true
	}
	return false
}

// bounded refuses, before the parser runs, what would take it long and what has no place in a file that is read
// literally: a value must not stand elsewhere than where it is used.
func (d *Doc) bounded(tokens token.Tokens) bool {
	depth, entries, entryLine, keys := 0, 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != entryLine {
			entries, entryLine = 0, t.Position.Line
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			depth++
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.SequenceEntryType:
			entries++
		case token.MappingValueType:
			keys++
		}
		if message := refusal(t); message != "" {
			d.errorAt(t.Position.Line, t.Position.Column, "%s", message)
			return false
		}
		if depth+entries > maxDepth || t.Position.IndentNum > maxDepth*8 {
			d.errorAt(t.Position.Line, t.Position.Column, "nested deeper than %d levels", maxDepth)
			return false
		}
		if keys > maxKeys {
			d.errorAt(t.Position.Line, t.Position.Column, "more than %d keys", maxKeys)
			return false
		}
	}
	return true
}

func refusal(t *token.Token) string {
	switch t.Type {
	case token.AliasType:
		return "\"*\" begins an alias in YAML, and aliases are not read (quote a value that begins with \"*\": \"* /orders\")"
	case token.AnchorType:
		return "\"&\" begins an anchor in YAML, and anchors are not read (write the value where it is used, or quote it)"
	case token.TagType:
		return "\"!\" begins a tag in YAML, and tags are not read (quote a value that begins with \"!\")"
	case token.MergeKeyType:
		return "merge keys are not read (write the values where they are used)"
	case token.MappingKeyType:
		return "\"?\" begins a complex key in YAML, and these are not read (quote a value that begins with \"?\")"
	case token.DirectiveType:
		return "directives are not read (remove the line, or quote a value that begins with \"%\")"
	}
	return ""
}

// nodePlace is where a reader sees the value begin.
func nodePlace(n ast.Node) place {
	switch m := n.(type) {
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 { // its own token is the first ":"
			return nodePlace(m.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return nodePlace(m.Key)
	}
	p := n.GetToken().Position
	return place{p.Line, p.Column}
}
