package guard

import (
	"bytes"
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestEveryPackageHasAComment(t *testing.T) {
	t.Parallel()
	comments := map[string]string{} // directory and package -> its comment
	for _, s := range mustSources(t) {
		if strings.HasSuffix(s.file.Name.Name, "_test") {
			continue
		}
		key := path.Dir(s.path) + " " + s.file.Name.Name
		if s.file.Doc != nil && !s.test {
			comments[key] += s.file.Doc.Text()
		} else if _, ok := comments[key]; !ok {
			comments[key] = ""
		}
	}
	for key, text := range comments {
		dir, name, _ := strings.Cut(key, " ")
		if strings.Contains(dir, "testdata") {
			continue
		}
		want := "Package " + name
		if name == "main" {
			want = "Command " + path.Base(dir)
		}
		// Two lines is what it takes to say what a package is and what it is not.
		if !strings.HasPrefix(text, want+" ") || len(text) < 150 {
			t.Errorf("%s: the package comment must begin with %q and say what the package is, what it is not and how to use it; it is %q", dir, want, text)
		}
	}
}

func TestNoDrawers(t *testing.T) {
	t.Parallel()
	drawers := []string{"util", "utils", "common", "helper", "helpers", "types", "pkg", "misc", "shared", "lib", "base", "core"}
	for _, s := range mustSources(t) {
		for _, d := range append(strings.Split(path.Dir(s.path), "/"), s.file.Name.Name) {
			if slices.Contains(drawers, d) {
				t.Errorf("%s: %q is a drawer, not a noun of the field: the code is in the wrong place", s.path, d)
			}
		}
	}
}

func TestMainsAreShort(t *testing.T) {
	t.Parallel()
	mains := 0
	dir, _ := root()
	for _, s := range mustSources(t) {
		if ok, _ := path.Match("cmd/*/main.go", s.path); !ok {
			continue
		}
		mains++
		text, err := os.ReadFile(filepath.Join(dir, s.path))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte("\n")); n >= 60 {
			t.Errorf("%s has %d lines: main calls run and turns its error into an exit code, nothing else (< 60 lines)", s.path, n)
		}
	}
	if mains != 3 {
		t.Errorf("found %d cmd/*/main.go, want those of sallyport-agent, sallyport-relay and sallyport-demo", mains)
	}
}

// selector gives "x.Sel" for a selector on a plain identifier.
func selector(e ast.Expr) string {
	if s, ok := e.(*ast.SelectorExpr); ok {
		if x, ok := s.X.(*ast.Ident); ok {
			return x.Name + "." + s.Sel.Name
		}
	}
	return ""
}

// calls runs f on every call in the file, with "x.Name" of what is called.
func calls(s source, f func(name string, c *ast.CallExpr)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			f(selector(c.Fun), c)
		}
		return true
	})
}

func TestNoTestSkipsInSilence(t *testing.T) {
	t.Parallel()
	for _, s := range mustSources(t) {
		if strings.HasPrefix(s.path, "test/loud/") {
			continue
		}
		calls(s, func(name string, c *ast.CallExpr) {
			recv, method, _ := strings.Cut(name, ".")
			if slices.Contains([]string{"t", "b", "f", "tb", "tt"}, recv) && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, method) {
				t.Errorf("%s:%d: %s: a test that cannot run says so by sallyport/test/loud, which fails where it must run", s.path, s.line(c), name)
			}
			if name == "testing.Short" {
				t.Errorf("%s:%d: testing.Short: no test is left out in silence", s.path, s.line(c))
			}
		})
	}
}

// TestCertificatesAreAlwaysVerified allows InsecureSkipVerify only in a function that also sets VerifyConnection: that is
// how a pinned key takes the place of the chain, in the words of crypto/tls.
func TestCertificatesAreAlwaysVerified(t *testing.T) {
	t.Parallel()
	for _, s := range mustSources(t) {
		if s.test || strings.HasPrefix(s.path, "test/") {
			continue
		}
		for _, d := range s.file.Decls {
			off, own := fieldSet(d, "InsecureSkipVerify"), fieldSet(d, "VerifyConnection")
			if off != nil && own == nil {
				t.Errorf("%s:%d: InsecureSkipVerify: verification is never off; a private CA has a setting", s.path, s.line(off))
			}
		}
	}
}

// fieldSet finds where the declaration sets a struct's field of this name to anything but false.
func fieldSet(d ast.Decl, field string) ast.Node {
	var found ast.Node
	ast.Inspect(d, func(n ast.Node) bool {
		var key, value ast.Expr
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			key, value = n.Key, n.Value
		case *ast.AssignStmt:
			if sel, ok := n.Lhs[0].(*ast.SelectorExpr); ok {
				key, value = sel.Sel, n.Rhs[0]
			}
		}
		if name, ok := key.(*ast.Ident); ok && name.Name == field {
			if v, ok := value.(*ast.Ident); !ok || v.Name != "false" {
				found = n
			}
		}
		return true
	})
	return found
}

// TestHouseRulesOfCode checks what a reader of one file cannot see: that a rule has no exception elsewhere.
func TestHouseRulesOfCode(t *testing.T) {
	t.Parallel()
	for _, s := range mustSources(t) {
		product := !s.test && !strings.HasPrefix(s.path, "test/") && !strings.HasPrefix(s.path, "bench/")
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s:%d: func init: nothing happens by being imported", s.path, s.line(f))
			}
		}
		if !product {
			continue
		}
		main, _ := path.Match("cmd/*/main.go", s.path)
		tool, _ := path.Match("installer/tools/*/main.go", s.path)
		main = main || tool
		calls(s, func(name string, c *ast.CallExpr) {
			switch name {
			case "time.Sleep":
				t.Errorf("%s:%d: time.Sleep: every wait ends by a context or a named timer", s.path, s.line(c))
			case "os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln":
				if !main {
					t.Errorf("%s:%d: %s: main alone ends the program; return an error", s.path, s.line(c), name)
				}
			case "net.Listen", "net.ListenTCP", "net.ListenUDP", "net.ListenPacket", "http.ListenAndServe", "http.ListenAndServeTLS":
				// The one exception is on loopback, and only if agent.yaml asks for it.
				if strings.HasPrefix(s.path, "agent/") && s.path != "agent/metrics/listen.go" && !unixSocket(c) {
					t.Errorf("%s:%d: %s: nothing listens inside; the agent has no TCP or UDP listener", s.path, s.line(c), name)
				}
			}
		})
	}
}

func unixSocket(c *ast.CallExpr) bool {
	if len(c.Args) == 0 {
		return false
	}
	l, ok := c.Args[0].(*ast.BasicLit)
	return ok && l.Value == `"unix"`
}

// machinePath matches paths of somebody's machine. The pieces are apart so that this file does not match itself.
var machinePath = regexp.MustCompile(`(^|[^\w./-])/(` + strings.Join([]string{"wo" + "rk", "ro" + "ot", "ho" + "me/[a-z]+", "Us" + "ers/[A-Za-z]+", "tm" + "p/[a-zA-Z0-9_.-]+"}, "|") + `)(/|\b)`)

func TestNoMachinePaths(t *testing.T) {
	t.Parallel()
	paths, err := tracked()
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := root()
	for _, p := range paths {
		text, err := os.ReadFile(filepath.Join(dir, p))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(text, 0) >= 0 { // a picture, an archive
			continue
		}
		for i, line := range strings.Split(string(text), "\n") {
			if m := machinePath.FindString(line); m != "" {
				t.Errorf("%s:%d: %q is a path of one machine", p, i+1, strings.TrimSpace(m))
			}
		}
	}
}
