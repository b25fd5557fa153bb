package guard

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// root is the directory of the module.
var root = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	return filepath.Dir(strings.TrimSpace(string(out))), err
})

// A source is one parsed Go file.
type source struct {
	path string // relative to the module's root, with slashes
	file *ast.File
	fset *token.FileSet
	test bool
}

func (s source) line(n ast.Node) int { return s.fset.Position(n.Pos()).Line }

var sources = sync.OnceValues(func() ([]source, error) {
	paths, err := tracked()
	if err != nil {
		return nil, err
	}
	dir, err := root()
	if err != nil {
		return nil, err
	}
	var all []source
	for _, p := range paths {
		if !strings.HasSuffix(p, ".go") {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, filepath.Join(dir, p), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		all = append(all, source{p, f, fset, strings.HasSuffix(p, "_test.go")})
	}
	return all, nil
})

// tracked lists the files that are, or would be, in the repository. Without git (an unpacked archive) it is all files.
func tracked() ([]string, error) {
	dir, err := root()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = dir
	var paths []string
	if out, err := cmd.Output(); err == nil {
		for _, p := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			// A file that was deleted but is still in the index is none.
			if _, err := os.Stat(filepath.Join(dir, p)); err == nil {
				paths = append(paths, p)
			}
		}
		return paths, nil
	}
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		paths = append(paths, filepath.ToSlash(rel))
		return err
	})
	return paths, err
}

func mustSources(t *testing.T) []source {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go files found: the guard looks in the wrong place")
	}
	return all
}

// A pkg is what go list says of a package.
type pkg struct {
	ImportPath, Name, Dir, Doc string
	Imports, Deps, GoFiles     []string
	Standard                   bool
}

// list runs go list with the arguments, for one operating system.
func list(t *testing.T, goos string, args ...string) []pkg {
	t.Helper()
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Name,Dir,Doc,Imports,Deps,GoFiles,Standard"}, args...)...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	var pkgs []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}
