package main

import (
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

func TestRightsThatAreMissingAreHintedAt(t *testing.T) {
	t.Parallel()
	denied := fmt.Errorf("create the store's folder: %w", &fs.PathError{Op: "mkdir", Path: "/srv/relay/x", Err: syscall.EACCES})
	for _, c := range []struct {
		err  error
		uid  int
		want bool
	}{
		{denied, 1000, true},
		{denied, 0, false},
		{fmt.Errorf("%w; as root hand it over", denied), 1000, false},
		{fmt.Errorf("%w; let the relay's account read it: chgrp", denied), 1000, false},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, 1000, false},
		{nil, 1000, false},
	} {
		if got := rightsHint(c.err, c.uid); (got != "") != c.want {
			t.Errorf("%v as %d: %q", c.err, c.uid, got)
		}
	}
}
