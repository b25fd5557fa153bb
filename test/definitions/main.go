// Command definitions runs every file of a folder through all that the product does with an API's definition: the
// allow-list is drafted from it, the agent cuts it, the relay makes the three formats of it and lints them, and Microsoft's
// schemas judge the result. It is how the project is tried with definitions that it has not seen; it downloads nothing and
// is no part of the tests.
//
//	go run ./test/definitions [--out DIR] DIR
//
// A file that is refused with a reason is no failure. A panic, a run longer than --limit, another result the second time,
// an internal host that is left, and whatever the schemas or the linter call an error are. With --out the files that were
// made are kept, for other validators (test/definitions/validate.mjs).
package main

import (
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/test/microsoft"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "definitions:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("definitions", flag.ContinueOnError)
	out := flags.String("out", "", "keep what is made in this `folder`")
	schemas := flags.String("schemas", "relay/definition/testdata/microsoft", "Microsoft's schemas")
	limit := flags.Duration("limit", 2*time.Minute, "how long one file may take")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("say which folder has the definitions: go run ./test/definitions [--out DIR] DIR")
	}
	s, err := microsoft.Read(os.DirFS(*schemas))
	if err != nil {
		return err
	}
	files, err := documents(flags.Arg(0))
	if err != nil {
		return err
	}
	results := all(files, &trial{schemas: s, root: flags.Arg(0), out: *out, limit: *limit})
	return report(results)
}

// documents are the JSON and YAML files of a folder, but for what belongs to a connector beside its definition.
func documents(root string) (files []string, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch base := strings.ToLower(d.Name()); {
		case err != nil || d.IsDir():
		case base == "apiproperties.json" || base == "settings.json":
		case slices.Contains([]string{".json", ".yaml", ".yml"}, filepath.Ext(base)):
			files = append(files, path)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s has no .json, .yaml or .yml file", root)
	}
	return files, err
}

// all tries the files, as many at once as there are processors.
func all(files []string, t *trial) []result {
	results := make([]result, len(files))
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for i := range next {
				results[i] = t.one(files[i])
			}
		})
	}
	for i := range files {
		next <- i
	}
	close(next)
	wg.Wait()
	return results
}

// report prints what came of it and says whether something failed.
func report(results []result) error {
	failed, refused := 0, 0
	var slowest, largest result
	for _, r := range results {
		for _, f := range r.faults {
			fmt.Printf("FAIL %s: %s\n", r.file, f)
		}
		switch {
		case len(r.faults) > 0:
			failed++
		case r.refused != nil:
			refused++
			fmt.Printf("refused %s: %v\n", r.file, r.refused)
		}
		slowest = slices.MaxFunc([]result{slowest, r}, func(a, b result) int { return cmp.Compare(a.took, b.took) })
		largest = slices.MaxFunc([]result{largest, r}, func(a, b result) int { return cmp.Compare(a.size, b.size) })
	}
	fmt.Printf("%d files: %d good, %d refused with a reason, %d failed; the slowest took %s (%s), the largest is made %d bytes (%s)\n",
		len(results), len(results)-refused-failed, refused, failed, slowest.took.Round(time.Millisecond), slowest.file, largest.size, largest.file)
	if failed > 0 {
		return fmt.Errorf("%d of %d files failed", failed, len(results))
	}
	return nil
}
