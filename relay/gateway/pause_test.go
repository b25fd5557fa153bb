package gateway

import (
	"testing"
	"time"
)

// The more links there are, the longer they are asked to take, up to a bound.
func TestPauseGoesWithTheNumberOfLinks(t *testing.T) {
	t.Parallel()
	for links, want := range map[int]time.Duration{0: 0, 2: 4 * time.Millisecond, 5000: 10 * time.Second, 1_000_000: mostSpread} {
		if got := pauseFor(links).Spread; got != want {
			t.Errorf("%d links are spread over %s, want %s", links, got, want)
		}
	}
}
