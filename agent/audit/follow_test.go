package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

// A record that is followed is given whole and in its order: what was there, what comes, over files that are set aside, and
// over a line that a crash cuts off and the next start removes.
func TestFollow(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	o := Options{MaxBytes: 3000, MaxFiles: 1000}
	recorded(t, dir, o, 30)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	path := dir.Path("audit/" + current)
	const rounds = 5
	round, seen := 1, 0
	var last uint64
	skipped, err := Follow(ctx, dir, func(line []byte, e Event) error {
		r, err := parse(line[:len(line)-1])
		if err != nil || r.N != last+1 {
			return fmt.Errorf("after record %d: %d, %w", last, r.N, err)
		}
		last = r.N
		if e.Kind == Call {
			seen++
		}
		if e.Kind != Seal || seen < 30*round {
			return nil
		}
		if round == rounds {
			cancel()
			return nil
		}
		round++
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(`{"v":2,"n":9999,"time":"torn`)
		if err = errors.Join(err, f.Close()); err == nil {
			recorded(t, dir, o, 30)
		}
		return err
	})
	if err != nil || skipped != 0 || seen != 30*rounds {
		t.Errorf("%d calls, %d lines skipped, %v; want %d", seen, skipped, err, 30*rounds)
	}
}
