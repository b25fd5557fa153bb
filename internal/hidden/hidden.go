// Package hidden reads secrets that are given to a command: typed at a prompt without an echo, or on standard input. Never as
// an argument, which other users of the machine could see.
package hidden

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// limit bounds what is read, in bytes.
const limit = 128 << 10

// Read asks at in for a line if that is a terminal, with the prompt on out; else it reads all of in. When ctx ends it returns
// at once, and a terminal has its echo back.
func Read(ctx context.Context, in io.Reader, out io.Writer, prompt string) (string, error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return Await(ctx, func() (string, error) { return All(in, "standard input") })
	}
	fd := int(f.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read from the terminal: %w", err)
	}
	fmt.Fprint(out, prompt)
	line, err := Await(ctx, func() (string, error) {
		line, err := term.ReadPassword(fd)
		return string(line), err
	})
	fmt.Fprintln(out)
	if ctx.Err() != nil {
		err = errors.Join(err, term.Restore(fd, before)) // Ctrl-C must give the terminal its echo back
	}
	return line, err
}

// Await waits for a read of standard input, or for ctx. Such a read cannot be interrupted: after Ctrl-C it ends with the
// process.
func Await(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return "", errors.New("interrupted")
	}
}

// All reads all of r, which errors call name, and fails if that is more than a secret can be.
func All(r io.Reader, name string) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > limit {
		return "", fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return string(data), nil
}
