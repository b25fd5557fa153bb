package update

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"runtime"
	"strings"
	"testing"
)

func tarOf(t *testing.T, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := 0; i < len(entries); i += 2 {
		h := &tar.Header{Name: entries[i], Mode: 0o755, Size: int64(len(entries[i+1])), Typeflag: tar.TypeReg}
		if strings.HasPrefix(entries[i+1], "->") {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, entries[i+1][2:], 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(entries[i+1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipOf(t *testing.T, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(entries); i += 2 {
		f, err := w.Create(entries[i])
		if err == nil {
			_, err = f.Write([]byte(entries[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestProgram: the program comes out of each form of package, and nothing comes out that is not the agent for this machine.
func TestProgram(t *testing.T) {
	t.Parallel()
	goos, goarch := runtime.GOOS, runtime.GOARCH
	otherArch := map[string]string{"amd64": "arm64", "arm64": "amd64"}[goarch]
	program := string(agent("1.1.0", "none"))
	relay := strings.ReplaceAll(program, "sallyport/cmd/sallyport-agent", "sallyport/cmd/sallyport-relay")
	foreign := strings.ReplaceAll(program, "GOARCH="+goarch, "GOARCH="+otherArch)
	for name, c := range map[string]struct {
		p    Package
		data []byte
		want string // in the error; "" for the program
	}{
		"bare":              {Package{}, []byte(program), ""},
		"exe":               {Package{form: ".exe"}, []byte(program), ""},
		"tar":               {Package{form: ".tar.gz"}, tarOf(t, "x/CHANGELOG.md", "text", "x/sallyport-agent", program), ""},
		"zip":               {Package{form: ".zip"}, zipOf(t, "x/install.ps1", "text", `x\sallyport-agent.exe`, program), ""},
		"for another OS":    {Package{OS: "plan9", Arch: goarch}, []byte(program), "it is for plan9/" + goarch},
		"for another arch":  {Package{OS: goos, Arch: otherArch}, []byte(program), "this machine needs " + goos + "/" + goarch},
		"named wrongly":     {Package{}, []byte(foreign), "the program in it is for " + goos + "/" + otherArch},
		"the relay":         {Package{}, []byte(relay), "it is another program: sallyport/cmd/sallyport-relay"},
		"no program":        {Package{form: ".tar.gz"}, tarOf(t, "x/sallyport-agent/README", "text"), "no sallyport-agent"},
		"a link":            {Package{form: ".tar.gz"}, tarOf(t, "sallyport-agent", "->/bin/sh"), "no sallyport-agent"},
		"text":              {Package{}, []byte("#!/bin/sh\n"), "no program of ours"},
		"no tar":            {Package{form: ".tar.gz"}, []byte("text"), "unpack it"},
		"no zip":            {Package{form: ".zip"}, []byte("text"), "unpack it"},
		"a tar that is cut": {Package{form: ".tar.gz"}, tarOf(t, "sallyport-agent", program)[:20000], "unpack it"},
		"a folder of a zip": {Package{form: ".zip"}, zipOf(t, "sallyport-agent/", ""), "no sallyport-agent"},
	} {
		if c.p.OS == "" {
			c.p.OS, c.p.Arch = goos, goarch
		}
		got, err := c.p.Program(c.data, goos, goarch)
		if c.want == "" && (err != nil || string(got) != program) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %d bytes, %v; want %q", name, len(got), err, c.want)
		}
	}
}
