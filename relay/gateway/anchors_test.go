package gateway

import (
	"fmt"
	"testing"
	"time"

	"sallyport/tunnel"
)

// However long an agent runs, so many anchors are kept: the newest, and one of each day before.
func TestAnchorsAreBounded(t *testing.T) {
	t.Parallel()
	var a Anchors
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const perDay, days = 40, 400
	for n := range perDay * days {
		var err error
		if a, _, err = a.take(tunnel.AuditHead{N: uint64(n + 1), Hash: fmt.Sprint(n)}, now.Add(time.Duration(n)*24*time.Hour/perDay)); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.Recent) != keptAnchors || len(a.Days) != keptDays || a.Recent[keptAnchors-1].N != perDay*days {
		t.Fatalf("%d recent, %d days, the last is %d", len(a.Recent), len(a.Days), a.Recent[len(a.Recent)-1].N)
	}
	for i := 1; i < len(a.Days); i++ {
		if a.Days[i].N-a.Days[i-1].N > perDay || a.Days[i].N <= a.Days[i-1].N {
			t.Errorf("after record %d comes %d", a.Days[i-1].N, a.Days[i].N)
		}
	}
}
