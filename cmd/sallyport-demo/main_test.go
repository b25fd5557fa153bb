package main

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// The story is the first thing that a stranger sees: it must work, and leave nothing behind.
func TestStoryWorks(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out, errOut bytes.Buffer
	start := time.Now()
	if err := run(t.Context(), []string{"--stay", "10ms"}, &out, &errOut); err != nil {
		t.Fatalf("%v\n%s%s", err, &out, &errOut)
	}
	t.Logf("told in %s", time.Since(start).Round(time.Millisecond))
	for _, want := range []string{`signedOnAs":"CORP\\svc-sallyport"`, "403, refused by the agent", "401, refused by the relay", "curl --cacert", "Stopping."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the story lacks %q:\n%s", want, &out)
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWrongArguments(t *testing.T) {
	var out, errOut bytes.Buffer
	for _, args := range [][]string{{"--nonsense"}, {"now"}, {"--stay", "long"}, {"--stay", "-1s"}, {"--once", "--stay", "1s"}} {
		if err := run(t.Context(), args, &out, &errOut); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v, want %v", args, err, errUsage)
		}
	}
}
