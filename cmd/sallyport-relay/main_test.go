package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestExitCodes: scripts can tell wrong usage from failure.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"version":                              exitOK,
		"--help":                               exitOK,
		"gateway":                              exitUsage,
		"gateway frob":                         exitUsage,
		"frob":                                 exitUsage,
		"gateway add":                          exitUsage,
		"gateway add x --expires soon":         exitUsage,
		"connector publish x --auth none":      exitUsage,
		"connector publish x/y --auth none":    exitFailed, // no relay runs
		"config check no-such-file.yaml":       exitFailed,
		"serve":                                exitUsage,
		"gateway list --socket no/such.socket": exitFailed,
	} {
		var out, err bytes.Buffer
		env := environment{in: strings.NewReader(""), out: &out, err: &err, get: func(string) string { return t.TempDir() + "/none.sock" }}
		if got := run(t.Context(), strings.Fields(line), env); got != want {
			t.Errorf("sallyport-relay %s exits with %d, want %d: %s", line, got, want, err.String())
		}
		if want != exitOK && (err.Len() == 0 || out.Len() != 0) {
			t.Errorf("sallyport-relay %s: an error belongs on standard error alone: %q, %q", line, err.String(), out.String())
		}
	}
}
