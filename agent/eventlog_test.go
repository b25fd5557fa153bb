package agent

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"sallyport/agent/audit"
	"sallyport/tunnel"
)

// A windowsLog stands in for Windows' event log.
type windowsLog struct {
	mu    sync.Mutex
	lines []string
}

func (w *windowsLog) Info(id uint32, text string) error    { return w.add("info", id, text) }
func (w *windowsLog) Warning(id uint32, text string) error { return w.add("warning", id, text) }
func (w *windowsLog) Error(id uint32, text string) error   { return w.add("error", id, text) }

func (w *windowsLog) add(level string, id uint32, text string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fmt.Sprintf("%s %d %s", level, id, text))
	return nil
}

// What is wanted of the record is in the event log as it is on record, in its order, the last line too.
func TestRecordInTheEventLog(t *testing.T) {
	t.Parallel()
	for wanted, without := range map[string][]string{"all": nil, auditRefusals: {"info 300 ", "info 302 ", "info 320 "}} {
		var log windowsLog
		r := newRigAs(t, "audit: {event_log: "+wanted+"}\n"+yamlForm, func(r *rig) { r.windows = &log })
		link := r.link()
		for target, status := range map[string]int{"/orders/5": 200, "/orders/../secret": 400, "/other": 403} {
			if resp, _ := r.ask(link, tunnel.Request{Method: "GET", Target: target}); resp.Status != status {
				t.Errorf("%s: status %d, want %d", target, resp.Status, status)
			}
		}
		r.api.CloseClientConnections()
		r.api.Close()
		if resp, _ := r.ask(link, tunnel.Request{Method: "GET", Target: "/orders/6"}); resp.Status != 502 {
			t.Errorf("an API that is gone: status %d", resp.Status)
		}
		r.stop()
		record, err := os.ReadFile(r.state.Path("audit/audit.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for line := range strings.Lines(string(record)) {
			id, level, _ := recordEvent([]byte(line))
			want = append(want, fmt.Sprintf("%s %d %s", map[bool]string{true: "warning", false: "info"}[level > 0], id, strings.TrimSuffix(line, "\n")))
		}
		want = slices.DeleteFunc(want, func(s string) bool {
			return slices.ContainsFunc(without, func(prefix string) bool { return strings.HasPrefix(s, prefix) })
		})
		if !slices.Equal(want, log.lines) {
			t.Errorf("%s: the event log has\n%s\nwant\n%s", wanted, strings.Join(log.lines, "\n"), strings.Join(want, "\n"))
		}
		all := strings.Join(log.lines, "\n")
		for _, event := range []string{`info 310 {"v":2,"n":`, `warning 301 {"v":2`, `warning 303 {"v":2`, `"event":"start"`, `"event":"stop"`} {
			if !strings.Contains(all, event) {
				t.Errorf("%s: the event log has no %s", wanted, event)
			}
		}
	}
}

// Where there is no event log, who wants one is told before anything runs.
func TestNoEventLogHere(t *testing.T) {
	t.Parallel()
	c := &Config{Audit: Audit{EventLog: "all"}}
	if f, err := newEventLog(c, Deps{}); f != nil || err == nil || !strings.Contains(err.Error(), "audit.syslog") {
		t.Errorf("%v, %v", f, err)
	}
}

// Each kind of line has its event, and the events are those of the table.
func TestRecordEvents(t *testing.T) {
	t.Parallel()
	var known []uint32
	for _, e := range RecordEvents() {
		known = append(known, e.ID)
	}
	for line, want := range map[string]uint32{
		`{"event":"call","verdict":"allowed"}`:         recordCall,
		`{"event":"call","verdict":"refused"}`:         recordRefused,
		`{"event":"done","status":200}`:                recordDone,
		`{"event":"done","problem":"upstream-failed"}`: recordFailed,
		`{"event":"policy"}`:                           recordAgent,
		`{"event":"` + string(audit.Broken) + `"}`:     recordWrong,
		`{"event":"seal"}`:                             recordSealed,
		`nonsense`:                                     recordWrong,
	} {
		if id, _, _ := recordEvent([]byte(line)); id != want || !slices.Contains(known, id) {
			t.Errorf("%s is event %d, want %d", line, id, want)
		}
	}
}
