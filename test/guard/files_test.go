package guard

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Archives, programs and what else a run by hand leaves do not belong in the repository; what a test reads lies in a testdata.
func TestNoBinaries(t *testing.T) {
	t.Parallel()
	paths, err := tracked()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		if strings.Contains("/"+p, "/testdata/") {
			continue
		}
		f, err := os.Open(filepath.Join(dir, p))
		if err != nil {
			t.Fatal(err)
		}
		head, err := io.ReadAll(io.LimitReader(f, 8<<10))
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(head, 0) >= 0 {
			t.Errorf("%s is a binary file: remove it, or put it into a testdata if a test reads it", p)
		}
	}
}
