package relay

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/relay/connector"
	"sallyport/tunnel"
)

func TestEventIsOneLineOfJSONWhateverStrangersSend(t *testing.T) {
	t.Parallel()
	evil := "a\"b\\c\nd\x00\x1b[31m\u2028é😀\xff</script>\x7f\u009b"
	e := &connector.Event{
		Time: time.Date(2026, 11, 23, 4, 5, 6, 7000, time.UTC), ID: "ID", Gateway: "plant1", Connector: "orders", Key: evil,
		Remote: evil, Proto: "HTTP/1.1", Method: evil, Path: evil, Status: 200, Code: "timeout", Origin: "relay", Executed: "no",
		Broken: true, In: 1, Out: 2, Agent: "a1", CallerID: evil, FlowRun: evil,
		Flow: []tunnel.FlowID{{Name: "correlation-id", Value: "c"}, {Name: "workflow-run-id", Value: "r"}},
		Took: connector.Took{Total: 1500 * time.Microsecond, Relay: 1, Link: time.Second},
	}
	line := appendEvent(nil, e)
	if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' || bytes.ContainsFunc(line[:len(line)-1], func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("not one harmless line: %q", line)
	}
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	clean := strings.ToValidUTF8(evil, "\ufffd")
	want := map[string]any{
		"time": "2026-11-23T04:05:06.000007Z", "id": "ID", "gateway": "plant1", "connector": "orders", "key": clean, "remote": clean,
		"proto": "HTTP/1.1", "method": clean, "path": clean, "status": 200.0, "in": 1.0, "out": 2.0, "code": "timeout",
		"origin": "relay", "executed": "no", "agent": "a1", "callerId": clean, "flowRun": clean, "broken": true,
		"flow": map[string]any{"correlation-id": "c", "workflow-run-id": "r"},
		"ms":   map[string]any{"total": 1.5, "relay": 0.0, "link": 1000.0, "agent": 0.0, "auth": 0.0, "upstream": 0.0, "answer": 0.0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAccessLogFollowsItsFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "access.log")
	a, err := openAccessLog(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a.record([]byte("one\n"))
	waitFor(t, "the first line is written", func() bool { return read(path) == "one\n" })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the file is made anew", func() bool { a.record([]byte("two\n")); return strings.HasPrefix(read(path), "two\n") })
	a.record([]byte("last\n"))
	a.close()
	if got := read(path); !strings.HasSuffix(got, "last\n") {
		t.Errorf("close left lines behind: %q", got)
	}
	if got := read(path + ".1"); !strings.HasPrefix(got, "one\n") {
		t.Errorf("the old file holds %q", got)
	}
}

// A pipe that nobody reads must not hold up a call, nor eat the memory.
func TestAccessLogNeverBlocks(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	a := newAccessLog(slog.New(slog.DiscardHandler))
	a.out = w
	go a.run()
	line := bytes.Repeat([]byte("x"), 1023)
	line = append(line, '\n')
	done := make(chan bool)
	go func() {
		for range 3 * accessQueue / len(line) {
			a.record(line)
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("recording waits for the pipe")
	}
	if held, dropped := a.queue.Len(), a.lost.Load(); held > accessQueue || dropped == 0 {
		t.Errorf("%d bytes held, %d lines dropped", held, dropped)
	}
	_ = r.Close() // the write under way fails
	a.close()
	_ = w.Close()
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("it never came to be that %s", what)
}

func TestMillis(t *testing.T) {
	t.Parallel()
	for us := range int64(2_000_100) {
		if us > 5000 {
			us *= 7919
		}
		want := strconv.FormatFloat(float64(us)/1000, 'f', -1, 64)
		if got := string(appendMillis(nil, time.Duration(us)*time.Microsecond)); got != want {
			t.Fatalf("%d us: %s, want %s", us, got, want)
		}
	}
	if got := string(appendMillis(nil, -1500*time.Microsecond)); got != "-1.5" {
		t.Errorf("-1.5 ms: %s", got)
	}
}
