package main

import (
	"context"
	"io"
	"strings"
	"testing"
)

func TestAQuestionEndsWithCtrlC(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	in, w := io.Pipe()
	defer w.Close()
	p := &program{environment: environment{in: in, err: io.Discard}}
	if text, ok := p.line(ctx); ok {
		t.Errorf("interrupted, it gives %q", text)
	}
	for typed, want := range map[string]string{"plant1\r\n": "plant1", "plant1": "", "": ""} {
		p.in = strings.NewReader(typed)
		if text, ok := p.line(t.Context()); text != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", typed, text, ok)
		}
	}
}
