package main

import (
	"context"
	"os"

	"sallyport/internal/hidden"
)

// readSecretly reads a file, or a line typed at a prompt without echo, or the whole standard input: never an argument,
// which other users of the machine could see.
func (p *program) readSecretly(ctx context.Context, file, prompt string) (string, error) {
	if file == "" {
		return hidden.Read(ctx, p.in, p.err, prompt)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return hidden.All(f, file)
}
