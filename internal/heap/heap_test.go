package heap

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	const MB = 1 << 20
	for _, c := range []struct {
		name         string
		live, second uint64
		want         int
	}{
		{"little in use, quiet", 8 * MB, 0, 400},
		{"little in use, busy", 8 * MB, 500 * MB, 400},
		{"much in use, quiet", 400 * MB, MB, 25},
		{"much in use, some calls", 400 * MB, 200 * MB, 50},
		{"much in use, busy", 400 * MB, 900 * MB, 100},
		{"nothing in use yet", 0, 900 * MB, 0},
		{"next to nothing in use", 1000, MB, 10_000},
	} {
		p := pace{made: 1}
		if got, changed := p.next(c.live, 1+c.second, 32*MB); got != c.want || changed != (c.want != 0) {
			t.Errorf("%s: %d %v, want %d", c.name, got, changed, c.want)
		}
	}
	p := pace{made: 1, percent: 100}
	if got, changed := p.next(100*MB, 1+95*MB, 0); changed {
		t.Errorf("a percentage of %d is set in place of 100", got)
	}
	if _, changed := new(pace).next(100*MB, 900*MB, 0); changed {
		t.Error("what was made before the first look counts as a second's")
	}
}

// Not parallel: the percentage is the process's.
func TestKeep(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100)) // whatever the environment says
	kept := make([]byte, 256<<20)                     // much in use, and no more is made
	runtime.GC()
	end := Keep(1<<20, "")
	for late := time.Now().Add(20 * time.Second); percentage() == 100 && time.Now().Before(late); {
		time.Sleep(20 * time.Millisecond)
	}
	if got := percentage(); got != 25 {
		t.Errorf("the percentage is %d, want 25", got)
	}
	runtime.KeepAlive(kept)
	end()
	if got := percentage(); got != 100 {
		t.Errorf("the percentage is %d at the end", got)
	}
}

func percentage() uint64 {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
