// Command tally counts what a test run really did: it reads the files named on the command line, each the output of
// go test -json, merges them, tells of each failed and each skipped test, and prints one closing line:
// "N passed, N failed, N skipped". It exits 1 if anything failed.
//
// It runs nothing itself; test.sh does. Tests are counted, not packages: a test with subtests counts as its subtests.
// A test that was skipped in one file and run in another counts as run, so the same tests may be tried first without
// the lab and then in it. A package that does not build, or dies outside of a test, counts as one failure. Lines that are
// not JSON are checks of the caller's own: "STEP pass|fail|skip NAME".
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
}

func run(files []string, out io.Writer) error {
	t := newTally()
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = t.read(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	return t.report(out)
}
