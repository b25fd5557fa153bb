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
	if !term.IsTerminal(int(p.in.Fd())) {
		return readAll(p.in, "standard input")
	}
	return p.prompt(ctx, prompt)
}

// prompt reads a line without echo. Ctrl-C, which ends ctx, must give the terminal its echo back.
func (p *program) prompt(ctx context.Context, prompt string) (string, error) {
	fd := int(p.in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read from the terminal: %w", err)
	}
	fmt.Fprint(p.err, prompt)
	type answer struct {
		line []byte
		err  error
	}
	typed := make(chan answer, 1)
	go func() { // a read of a terminal cannot be interrupted: after Ctrl-C it ends with the process
		line, err := term.ReadPassword(fd)
		typed <- answer{line, err}
	}()
	defer fmt.Fprintln(p.err)
	select {
	case a := <-typed:
		if a.err != nil {
			return "", fmt.Errorf("read from the terminal: %w", a.err)
		}
		return string(a.line), nil
	case <-ctx.Done():
		return "", errors.Join(errors.New("interrupted"), term.Restore(fd, before))
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
