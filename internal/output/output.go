// Package output is a command's standard output, which keeps the first error of it: a key that nobody could read, because the disk
// that it was to be written to is full, is no success.
package output

import (
	"fmt"
	"io"
)

// An Output passes on what is written. It is for one goroutine at a time.
type Output struct {
	w   io.Writer
	err error
}

// To is an Output that writes to w.
func To(w io.Writer) *Output { return &Output{w: w} }

func (o *Output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// Or is err, the outcome of the command, or else that what it said could not be printed.
func (o *Output) Or(err error) error {
	if err == nil && o.err != nil {
		return fmt.Errorf("what was asked for is done, but the answer could not be printed: %w", o.err)
	}
	return err
}
