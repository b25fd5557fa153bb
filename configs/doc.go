package configs

import (
	"fmt"
	"slices"
	"strings"
)

// maxErrors bounds what one Load reports: a file of another kind gives an error for each of its lines.
const maxErrors = 100

// A Doc is a document being checked: it knows where each setting stands in the file.
//
// Settings are named by their path: "relay", "apis[0].allow[2]", "apis[0].limits.body". A leading "$." is ignored.
type Doc struct {
	name     string
	places   map[string]place // by path: where the value stands
	failed   map[string]bool  // paths whose value could not be read
	checking bool             // decoding is over
	errs     Errors
	more     int // errors beyond maxErrors
}

type place struct{ line, column int }

// Errorf reports something wrong with the setting at path. Where the file does not have it, the error points at the
// nearest part of the path that it has. An error about a value that could not be read is dropped: one is enough.
func (d *Doc) Errorf(path, format string, args ...any) {
	path = trimRoot(path)
	if d.checking && d.hasFailed(path) {
		return
	}
	p := d.place(path)
	d.errorAt(p.line, p.column, format, args...)
}

// Has reports whether the file has a value at path, be it the zero value.
func (d *Doc) Has(path string) bool {
	_, ok := d.places[trimRoot(path)]
	return ok
}

// Position says where the value at path stands, 1-based, columns in characters. Where the file does not have it, the
// position is that of the nearest part of the path that it has.
func (d *Doc) Position(path string) (line, column int) {
	p := d.place(trimRoot(path))
	return p.line, p.column
}

// trimRoot makes "$.relay" and "$" as "relay" and "".
func trimRoot(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, "$"), ".")
}

// parent is path without its last step: "apis[0].name", "apis[0]", "apis", "".
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

func (d *Doc) place(path string) place {
	for {
		if p, ok := d.places[path]; ok {
			return p
		}
		if path == "" {
			return place{1, 1}
		}
		path = parent(path)
	}
}

func (d *Doc) hasFailed(path string) bool {
	for ; path != ""; path = parent(path) {
		if d.failed[path] {
			return true
		}
	}
	return d.failed[""]
}

// fail reports that the value at path could not be read.
func (d *Doc) fail(path, format string, args ...any) {
	d.Errorf(path, format, args...)
	d.failed[path] = true
}

func (d *Doc) errorAt(line, column int, format string, args ...any) {
	if len(d.errs) >= maxErrors {
		d.more++
		return
	}
	d.errs = append(d.errs, &Error{d.name, line, column, fmt.Sprintf(format, args...)})
}

func (d *Doc) result() error {
	if len(d.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(d.errs, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	if d.more > 0 {
		last := d.errs[len(d.errs)-1]
		d.errs = append(d.errs, &Error{d.name, last.Line, last.Column, fmt.Sprintf("and %d more errors", d.more)})
	}
	return d.errs
}

// An Error is one thing that is wrong at one place of a file.
type Error struct {
	File    string
	Line    int // 1-based
	Column  int // 1-based, in characters
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Errors is everything that is wrong with a file, in its order, at least one.
type Errors []*Error

// Error gives one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the errors one by one, for errors.Is and errors.As.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}
