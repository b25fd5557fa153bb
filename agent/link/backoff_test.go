package link

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"sallyport/tunnel"
)

func TestBackoffGrowsIsSpreadAndCapped(t *testing.T) {
	t.Parallel()
	network := errors.New("connection refused")
	top := Backoff{random: func(n int64) int64 { return n - 1 }}
	var last time.Duration
	for i := range 100 {
		d := top.Next(network)
		if d < last || d >= backoffCap || i == 0 && d >= backoffBase || i > 10 && d < backoffCap-time.Second {
			t.Fatalf("wait %d is %v after %v", i, d, last)
		}
		last = d
	}
	top.Reset()
	if d := top.Next(network); d >= backoffBase {
		t.Errorf("after Reset: %v", d)
	}
	low := Backoff{failures: 50, random: func(int64) int64 { return 0 }}
	if d := low.Next(network); d != 0 {
		t.Errorf("the jitter is not full: at least %v", d)
	}
}

// The end of a link that was up for a while is not waited after for long, however many there were before. One that ended at once
// is a failure like others, and so is what follows.
func TestBackoffAfterALinkThatLived(t *testing.T) {
	t.Parallel()
	lost := errors.New("link lost")
	b := Backoff{failures: 50, random: func(n int64) int64 { return n - 1 }}
	for _, c := range []struct{ lived, most time.Duration }{
		{3 * time.Second, 6 * time.Second}, {leastLife, 2 * leastLife}, {leastLife - 1, backoffCap}, {time.Hour, backoffCap},
	} {
		b.Lived(c.lived)
		if d := b.Next(lost); d >= c.most || d < c.most-time.Second {
			t.Errorf("after a link that lived %s the agent waits up to %s, want %s", c.lived, d, c.most)
		}
		if d := b.Next(lost); d < backoffCap-time.Second {
			t.Errorf("and then %s", d)
		}
	}
	b.Lived(3 * time.Second)
	if d := b.Next(&tunnel.Refusal{RetryAfter: 20 * time.Second}); d < 20*time.Second {
		t.Errorf("the relay asked for 20s, the agent waits %s", d)
	}
}

func TestBackoffHonoursTheRelay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err      error
		min, max time.Duration
	}{
		"permanent":       {&tunnel.Refusal{Permanent: true}, 4 * time.Minute, 6 * time.Minute},
		"another key":     {fmt.Errorf("x: %w", tunnel.ErrRelayKey), 4 * time.Minute, 6 * time.Minute},
		"asked":           {fmt.Errorf("x: %w", &tunnel.Refusal{RetryAfter: 20 * time.Second}), 20 * time.Second, 25 * time.Second},
		"asked by HTTP":   {&DialError{Err: errors.New("503"), RetryAfter: 20 * time.Second}, 20 * time.Second, 25 * time.Second},
		"asked for years": {&tunnel.Refusal{RetryAfter: 1 << 62}, time.Hour, 2 * time.Hour},
		"asked negative":  {&tunnel.Refusal{RetryAfter: -5}, 0, backoffBase},
		"plain refusal":   {&tunnel.Refusal{}, 0, backoffBase},
	} {
		for range 50 {
			var b Backoff
			if d := b.Next(c.err); d < c.min || d > c.max {
				t.Errorf("%s: %v, want %v to %v", name, d, c.min, c.max)
			}
		}
	}
}
