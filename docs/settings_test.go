package docs

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/agent"
	"sallyport/configs"
	"sallyport/configs/schema"
	"sallyport/relay"
)

// update writes the references of settings instead of comparing them.
var update = flag.Bool("update", false, "write the references of settings anew")

// The comment above a field of a Config is the manual; the pages have the same words.
func TestSettings(t *testing.T) {
	for page, c := range map[string]struct {
		dirs []string
		of   reflect.Type
	}{
		"agent.md": {[]string{"../agent"}, reflect.TypeFor[agent.Config]()},
		"relay.md": {[]string{"../relay"}, reflect.TypeFor[relay.Config]()},
	} {
		comments, err := schema.ReadComments(c.dirs...)
		if err != nil {
			t.Fatal(err)
		}
		var table strings.Builder
		table.WriteString("\n| setting | kind | |\n|---|---|---|\n")
		rows(t, &table, comments, "", c.of)
		table.WriteString("\n")

		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		begin, end := []byte("<!-- settings -->\n"), []byte("<!-- end of settings -->")
		before, rest, ok1 := bytes.Cut(text, begin)
		got, after, ok2 := bytes.Cut(rest, end)
		if !ok1 || !ok2 {
			t.Fatalf("%s has no place for the settings", page)
		}
		if *update {
			whole := bytes.Join([][]byte{before, begin, []byte(table.String()), end, after}, nil)
			if err := os.WriteFile(page, whole, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(table.String(), string(got)); diff != "" {
			t.Errorf("the settings in %s are not those of %s; run: go test ./docs -run TestSettings -update\n%s", page, c.of, diff)
		}
	}
}

// rows writes a row for each setting, in the order of the struct.
func rows(t *testing.T, b *strings.Builder, comments schema.Comments, prefix string, of reflect.Type) {
	for _, s := range configs.Settings(of) {
		key := path.Base(of.PkgPath()) + "." + of.Name() + "." + s.Field.Name
		comment := comments[key]
		if comment == "" {
			t.Errorf("%s has no comment, which is its manual", key)
		}
		comment = inReadersWords(s, comment)
		inner, kind := kindOf(s)
		if s.Required {
			kind += ", required"
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s |\n", prefix, s.Key, kind, strings.ReplaceAll(comment, "|", `\|`))
		if inner != nil {
			dot := "."
			if s.Field.Type.Kind() == reflect.Slice {
				dot = "[]."
			}
			rows(t, b, comments, prefix+s.Key+dot, inner)
		}
	}
}

// inReadersWords makes "The address ..." of "Listen is the address ...", and "`store` says ..." of "Store says ...": the
// reader knows the key, not the field.
func inReadersWords(s configs.Setting, comment string) string {
	rest, ok := strings.CutPrefix(comment, s.Field.Name+" ")
	if !ok {
		return comment
	}
	verb, what, _ := strings.Cut(rest, " ")
	switch verb {
	case "is", "are":
		return strings.ToUpper(what[:1]) + what[1:]
	case "says", "ends", "end", "bound", "names":
		return "`" + s.Key + "` " + rest
	}
	return comment // "As whom", "Kerberos for Windows authentication"
}

// kindOf says in the reader's words what a setting takes, and the type of the settings below it, if there are any.
func kindOf(s configs.Setting) (inner reflect.Type, kind string) {
	of := s.Field.Type
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch {
	case len(s.Enum) > 0:
		return nil, strings.Join(s.Enum, ", ")
	case of == reflect.TypeFor[time.Duration]():
		return nil, "time"
	case of == reflect.TypeFor[configs.Size]():
		return nil, "size"
	case of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Struct:
		return of.Elem(), "list of settings"
	case of.Kind() == reflect.Slice:
		return nil, "list"
	case of.Kind() == reflect.Struct:
		if w, ok := reflect.Zero(of).Interface().(interface{ Words() []string }); ok {
			return of, strings.Join(w.Words(), ", ") + " or settings"
		}
		return of, "settings"
	case of.Kind() == reflect.Bool:
		return nil, "true, false"
	case of.Kind() == reflect.String:
		return nil, "text"
	}
	return nil, "number"
}
