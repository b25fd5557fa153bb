//go:build !windows

package doctor

import (
	"os"
	"testing"
)

func TestMayRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		uid, gid, ofUID, ofGID uint32
		mode                   uint32
		want                   bool
	}{
		{0, 0, 5, 5, 0o000, true}, // root
		{5, 5, 5, 5, 0o600, true},
		{5, 5, 5, 5, 0o044, false}, // the owner's own bits count
		{5, 6, 0, 6, 0o640, true},
		{5, 6, 0, 6, 0o604, false},
		{5, 6, 0, 0, 0o644, true},
		{5, 6, 0, 0, 0o600, false},
	} {
		if got := mayRead(c.uid, c.gid, c.ofUID, c.ofGID, os.FileMode(c.mode)); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
