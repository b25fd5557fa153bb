// Package schema makes a JSON Schema of a configuration struct that package configs reads, so that editors complete and
// check the file, and the comment above each field is its manual in both places. It is for tests and generators: neither
// program links it.
//
//	comments, err := schema.ReadComments("../agent", "../configs")
//	data, err := schema.Generate("agent.yaml", reflect.TypeFor[agent.Config](), comments)
//
// A type may describe itself with a method JSONSchema() map[string]any on its value, and a struct that may also be
// written as one word gives the words with Words() []string. Any other type with UnmarshalText is a string.
package schema

import (
	"encoding"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"sallyport/configs"
)

// Comments are the comments above types ("agent.API") and fields ("agent.API.Name").
type Comments map[string]string

// ReadComments reads the Go files of the directories, without tests. A field without a comment has that of the field
// above it if no empty line is between: two settings can share one.
func ReadComments(dirs ...string) (Comments, error) {
	c := Comments{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			return nil, fmt.Errorf("no Go files in %s: %w", dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			if err := c.file(name); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

func (c Comments) file(name string) error {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
	if err != nil {
		return fmt.Errorf("read the comments of %s: %w", name, err)
	}
	for _, decl := range f.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.TYPE {
			continue
		}
		for _, spec := range group.Specs {
			t := spec.(*ast.TypeSpec)
			key := f.Name.Name + "." + t.Name.Name
			c[key] = text(group.Doc, t.Doc)
			if s, ok := t.Type.(*ast.StructType); ok {
				c.fields(fset, key, s)
			}
		}
	}
	return nil
}

func (c Comments) fields(fset *token.FileSet, key string, s *ast.StructType) {
	line, above := 0, ""
	for _, f := range s.Fields.List {
		comment := text(f.Doc, f.Comment)
		if comment == "" && fset.Position(f.Pos()).Line == line+1 {
			comment = above
		}
		for _, name := range f.Names {
			c[key+"."+name.Name] = comment
		}
		line, above = fset.Position(f.End()).Line, comment
	}
}

// text joins the lines of the first comment that there is.
func text(groups ...*ast.CommentGroup) string {
	for _, g := range groups {
		if s := strings.Join(strings.Fields(g.Text()), " "); s != "" {
			return s
		}
	}
	return ""
}

// Generate gives the schema (draft 2020-12) as indented JSON. Every setting must have a comment.
func Generate(title string, t reflect.Type, c Comments) ([]byte, error) {
	g := generator{comments: c}
	root := g.of(t)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = title
	root["description"] = c[name(t)]
	if len(g.bare) > 0 {
		return nil, fmt.Errorf("settings without a comment, which is their manual: %s", strings.Join(g.bare, ", "))
	}
	data, err := json.MarshalIndent(root, "", "  ")
	return append(data, '\n'), err
}

type generator struct {
	comments Comments
	bare     []string // fields without a comment
}

// name is a type as comments know it: package and type.
func name(t reflect.Type) string { return path.Base(t.PkgPath()) + "." + t.Name() }

func (g *generator) of(t reflect.Type) map[string]any {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	zero := reflect.Zero(t).Interface()
	if s, ok := zero.(interface{ JSONSchema() map[string]any }); ok {
		return s.JSONSchema()
	}
	if t == reflect.TypeFor[time.Duration]() {
		return map[string]any{"type": "string", "pattern": `^([0-9]+d|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$`}
	}
	isText := reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	switch t.Kind() {
	case reflect.Struct:
		return g.structure(t, zero, isText)
	case reflect.Slice:
		return map[string]any{"type": "array", "items": g.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": g.of(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		return map[string]any{"type": "string"}
	}
	if isText {
		return map[string]any{"type": "string"}
	}
	return map[string]any{"type": "integer"}
}

func (g *generator) structure(t reflect.Type, zero any, isText bool) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, s := range configs.Settings(t) {
		p := g.of(s.Field.Type)
		comment := g.comments[name(t)+"."+s.Field.Name]
		if comment == "" {
			g.bare = append(g.bare, name(t)+"."+s.Field.Name)
		}
		p["description"] = comment
		if len(s.Enum) > 0 {
			p["enum"] = s.Enum
		}
		if s.Required {
			required = append(required, s.Key)
		}
		properties[s.Key] = p
	}
	object := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		object["required"] = required
	}
	if !isText {
		return object
	}
	word := map[string]any{"type": "string"}
	if w, ok := zero.(interface{ Words() []string }); ok {
		word["enum"] = w.Words()
	}
	if len(properties) == 0 {
		return word
	}
	return map[string]any{"oneOf": []any{word, object}}
}
