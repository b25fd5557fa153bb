package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// inputLimit bounds what is read as a join string or a secret.
const inputLimit = 128 << 10

// readSecretly reads a file, or a line typed at a prompt without echo, or the whole standard input: never an argument,
// which other users of the machine could see.
func (p *program) readSecretly(ctx context.Context, file, prompt string) (string, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		return readAll(f, file)
	}
	fd := int(p.in.Fd())
	if !term.IsTerminal(fd) {
		return await(ctx, func() (string, error) { return readAll(p.in, "standard input") })
	}
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read from the terminal: %w", err)
	}
	fmt.Fprint(p.err, prompt)
	line, err := await(ctx, func() (string, error) {
		line, err := term.ReadPassword(fd)
		return string(line), err
	})
	fmt.Fprintln(p.err)
	if ctx.Err() != nil {
		err = errors.Join(err, term.Restore(fd, before)) // Ctrl-C must give the terminal its echo back
	}
	return line, err
}

// await waits for a read of standard input, or for ctx. Such a read cannot be interrupted: after Ctrl-C it ends with the
// process.
func await(ctx context.Context, read func() (string, error)) (string, error) {
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

func readAll(r io.Reader, name string) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, inputLimit+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > inputLimit {
		return "", fmt.Errorf("%s has more than %d bytes", name, inputLimit)
	}
	return string(data), nil
}
