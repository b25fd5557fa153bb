package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestRightsThatAreMissingAreHintedAt(t *testing.T) {
	t.Parallel()
	denied := fmt.Errorf("make state directory: %w", &fs.PathError{Op: "mkdir", Path: "/var/lib/x", Err: syscall.EACCES})
	for _, c := range []struct {
		err     error
		uid     int
		service bool
		want    string
	}{
		{denied, 1000, false, "--config and --state"},
		{runError{denied}, 1000, false, "--config and --state"},
		{&os.LinkError{Op: "rename", Old: "a", New: "b", Err: syscall.EPERM}, 1000, true, "service install"},
		{denied, 0, false, ""},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, 1000, false, ""},
		{os.NewSyscallError("connect", syscall.EACCES), 1000, false, ""},
		{errors.New("other"), 1000, false, ""},
		{nil, 1000, false, ""},
	} {
		if got := rightsHint(c.err, c.uid, c.service); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v as %d: %q, want %q", c.err, c.uid, got, c.want)
		}
	}
}
