package doctor

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestUnfinishedUpdate: an update that was killed is told, one that is under way is no fault, and none is not listed.
func TestUnfinishedUpdate(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "sallyport-agent")
	p := &patient{o: Options{Program: program}}
	if f, there := p.update(); there {
		t.Errorf("none is listed: %+v", f)
	}
	for began, want := range map[time.Time]Status{time.Now(): OK, time.Now().Add(-time.Hour): Warn} {
		write(t, program+".update.json", fmt.Sprintf(`{"from": "1.0.0", "to": "1.1.0", "began": %q}`, began.Format(time.RFC3339)), 0o644)
		f, there := p.update()
		if !there || f.ID != "update" || f.Status != want || !strings.Contains(f.Found, "from 1.0.0 to 1.1.0") || (f.Do != "") != (want == Warn) {
			t.Errorf("begun %s: %+v, %v", began, f, there)
		}
	}
	write(t, program+".update.json", `{"from": "1.0`, 0o644)
	if f, there := p.update(); there {
		t.Errorf("a torn journal is listed: %+v", f)
	}
}
