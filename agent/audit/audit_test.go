package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/agent/state"
)

func stateDir(t *testing.T) state.Dir {
	t.Helper()
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func openLog(t *testing.T, dir state.Dir, o Options) *Log {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// running runs l until the function it returns is called.
func running(t *testing.T, l *Log) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

type parsed struct {
	V int `json:"v"`
	Event
}

func readLines(t *testing.T, path string) []parsed {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []parsed
	s := bufio.NewScanner(bytes.NewReader(data))
	for s.Scan() {
		var p parsed
		if err := json.Unmarshal(s.Bytes(), &p); err != nil {
			t.Fatalf("%v in line %q", err, s.Text())
		}
		if p.Kind != Begin && p.Kind != Seal && p.Kind != Checkpoint { // chain_test.go looks at these
			all = append(all, p)
		}
	}
	return all
}

func TestRecordIsOneLinePerEvent(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	l := openLog(t, dir, Options{})
	stop := running(t, l)
	want := Event{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC), Kind: Call, Request: "r1", API: "orders", Method: "GET",
		Path: "/orders/5\n{\"v\":1,\"event\":\"forged\"}", Caller: "key:flow <prod>", Verdict: Allowed, Rule: "GET /orders/**",
		Status: 200, In: 1, Out: 2, Millis: 1.5, Auth: "kerberos",
	}
	l.Record(want)
	l.Record(Event{Kind: Stop})
	stop()

	path := dir.Path("audit/audit.jsonl")
	got := readLines(t, path)
	if len(got) != 2 {
		t.Fatalf("%d lines, want 2", len(got))
	}
	if diff := cmp.Diff(parsed{formatVersion, want}, got[0]); diff != "" {
		t.Error(diff)
	}
	if got[1].Kind != Stop || time.Since(got[1].Time) > time.Hour {
		t.Errorf("second line %+v, want a stop just now", got[1])
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info, err)
	}
}

// Whatever is recorded before the end is on the disk or in the count of a gap.
func TestNothingIsLostSilently(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	l := openLog(t, dir, Options{Queue: 4})
	for range 10 { // nobody writes yet: 4 fit
		l.Record(Event{Kind: Call})
	}
	stop := running(t, l)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				l.Record(Event{Kind: Call})
			}
		})
	}
	wg.Wait()
	stop()
	var calls, lost uint64
	for _, p := range readLines(t, dir.Path("audit/audit.jsonl")) {
		switch p.Kind {
		case Call:
			calls++
		case Gap:
			lost += p.Lost
		}
	}
	if calls+lost != 4010 || lost < 6 {
		t.Errorf("%d calls and %d lost, want 4010 together and at least 6 lost", calls, lost)
	}
}

// While the disk refuses, calls are counted; when it takes again, the record says how many are missing.
func TestDiskRefuses(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	var out bytes.Buffer
	l := openLog(t, dir, Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
	path := dir.Path("audit/audit.jsonl")
	if err := l.file.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // stands for any error of the disk
		t.Fatal(err)
	}
	for range 3 {
		l.write([]entry{{Event: Event{Kind: Call, Request: "lost"}}})
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l.write([]entry{{Event: Event{Kind: Call, Request: "kept"}}})
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	got := readLines(t, path)
	if len(got) != 2 || got[0].Request != "kept" || got[1].Kind != Gap || got[1].Lost != 3 {
		t.Errorf("lines %+v, want the kept call and a gap of 3", got)
	}
	if s := l.Stats(); s != (Stats{Lost: 3, Failures: 3}) { // since the start, the fault's end notwithstanding
		t.Errorf("%+v, want 3 lost by 3 writes", s)
	}
	if n := strings.Count(out.String(), "cannot be written"); n != 1 {
		t.Errorf("the fault was logged %d times, want once:\n%s", n, out.String())
	}
	if !strings.Contains(out.String(), `msg="the audit record is written again" lost=3`) {
		t.Errorf("the end of the fault was not logged:\n%s", out.String())
	}
}

// A disk that is all but full takes some writes and refuses others: that is one fault, with two lines in the log.
func TestFlickeringDisk(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		key, _ := testKey("agent")
		l := openLog(t, dir, Options{Key: key, Log: slog.New(slog.NewTextHandler(&out, nil))})
		var full atomic.Bool
		l.file.put = func(f *os.File, b []byte) (int, error) {
			if full.Load() {
				n, _ := f.Write(b[:len(b)/2]) // as a disk does that is full in the middle of a write
				return n, syscall.ENOSPC
			}
			return f.Write(b)
		}
		stop := running(t, l)
		for range 5 {
			l.Record(Event{Kind: Call, Request: "kept"})
			time.Sleep(3 * time.Second)
			full.Store(true)
			l.Record(Event{Kind: Call, Request: "lost"})
			time.Sleep(3 * time.Second)
			full.Store(false)
		}
		time.Sleep(20 * time.Second)
		l.Record(Event{Kind: Call, Request: "kept"})
		stop()
		if rep := whole(t, dir); rep.Sealed != rep.Last {
			t.Errorf("%+v, want all sealed", rep)
		}
		var lost uint64
		for _, p := range readLines(t, dir.Path("audit/audit.jsonl")) {
			lost += p.Lost
		}
		if lines := strings.Count(out.String(), "\n"); lines != 2 || lost != 5 || !strings.Contains(out.String(), "written again\" lost=5") {
			t.Errorf("%d lines in the log, %d lost in the record; want 2 and 5:\n%s", lines, lost, out.String())
		}
	})
}

func TestOpenMendsACutLine(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	l := openLog(t, dir, Options{})
	l.write([]entry{{Event: Event{Kind: Start}}})
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	path := dir.Path("audit/audit.jsonl")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"v":1,"time":"2026-`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir, Options{})
	l.write([]entry{{Event: Event{Kind: Stop}}})
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) != 5 || !strings.Contains(lines[2], `"event":"begin"`) || !strings.Contains(lines[3], `"event":"repair"`) ||
		!strings.Contains(lines[4], `"event":"stop"`) {
		t.Errorf("lines:\n%s", data)
	}
}

// The record never takes more than its bound, keeps the newest events and loses none of those it keeps.
func TestRotation(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	l := openLog(t, dir, Options{MaxBytes: 4000, MaxFiles: 2})
	const n = 300
	for i := range n {
		l.write([]entry{{Event: Event{Kind: Call, Request: fmt.Sprint(i)}}})
	}
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(dir.Path("audit/audit-*.jsonl"))
	if err != nil || len(names) != 2 {
		t.Fatalf("set aside: %v, %v; want 2 files", names, err)
	}
	next := -1
	for _, path := range append(names, dir.Path("audit/audit.jsonl")) {
		if info, err := os.Stat(path); err != nil || info.Size() > 4000 {
			t.Errorf("%s: %v, %v; want at most 4000 bytes", path, info, err)
		}
		for _, p := range readLines(t, path) {
			var i int
			if _, err := fmt.Sscan(p.Request, &i); err != nil {
				t.Fatal(err)
			}
			if next >= 0 && i != next {
				t.Fatalf("event %d follows %d", i, next-1)
			}
			next = i + 1
		}
	}
	if next != n {
		t.Errorf("the last event is %d, want %d", next-1, n-1)
	}
}

// TestAge: records go when they are old, a file at a time and behind a checkpoint, also where there is room for them and nothing
// new comes; the record that is left is whole.
func TestAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const keep = 10 * time.Hour
		dir := stateDir(t)
		key, _ := testKey("agent")
		l := openLog(t, dir, Options{MaxAge: keep, Key: key})
		stop := running(t, l)
		began := time.Now()
		for hour := range 30 {
			l.Record(Event{Kind: Call, Request: fmt.Sprint(hour)})
			time.Sleep(time.Hour)
		}
		stop()
		names, err := filepath.Glob(dir.Path("audit/audit-*.jsonl"))
		if err != nil || len(names) < 9 || len(names) > 12 {
			t.Errorf("set aside: %d files, %v", len(names), err)
		}
		hours := map[string]bool{}
		for _, path := range append(names, dir.Path("audit/audit.jsonl")) {
			for _, p := range readLines(t, path) {
				if age := time.Since(p.Time); p.Kind == Call && age > keep+keep/ageParts+2*ageEvery {
					t.Errorf("a record of %s is %s old", p.Time.Sub(began), age)
				}
				if p.Kind == Call {
					hours[p.Request] = true
				}
			}
		}
		for hour := 20; hour < 30; hour++ {
			if !hours[fmt.Sprint(hour)] {
				t.Errorf("the record of hour %d is gone too early", hour)
			}
		}
		if rep := whole(t, dir); rep.First == 1 {
			t.Errorf("nothing is gone: %+v", rep)
		}
	})
}

func TestLongWordsAreCut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 100_000)
	b, _ := link{}.append(nil, Event{Kind: Call, Request: long, API: long, Method: long, Path: long, Caller: long, Detail: long, Rule: long})
	if len(b) > 12<<10 { // a letter that takes two bytes is written as six
		t.Errorf("the line has %d bytes", len(b))
	}
	var p parsed
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsRune(p.Path, '\uFFFD') || !strings.HasSuffix(p.Path, "ü[cut]") {
		t.Errorf("path ends in %q", p.Path[len(p.Path)-20:])
	}
}

// Commit returns when the event is in the file, does not wait for others to be written with it, and says if it is not.
func TestCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := stateDir(t)
		l := openLog(t, dir, Options{Queue: 4})
		var full atomic.Bool
		l.file.put = func(f *os.File, b []byte) (int, error) {
			if full.Load() {
				return 0, syscall.ENOSPC
			}
			return f.Write(b)
		}
		if err := l.Commit(t.Context(), Event{Kind: Call, Request: "unheard"}); !errors.Is(err, ErrUnwritten) {
			t.Errorf("nobody writes: %v", err)
		}
		stop := running(t, l)
		l.Record(Event{Kind: Call, Request: "before"})
		if err := l.Commit(t.Context(), Event{Kind: Call, Request: "kept"}); err != nil {
			t.Fatal(err)
		}
		if all := readLines(t, dir.Path("audit/audit.jsonl")); len(all) != 3 || all[2].Request != "kept" {
			t.Errorf("in the file when Commit returned: %+v", all)
		}
		full.Store(true)
		if err := l.Commit(t.Context(), Event{Kind: Call, Request: "refused"}); !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, ErrUnwritten) {
			t.Errorf("a full disk: %v", err)
		}
		full.Store(false)
		if err := l.Commit(t.Context(), Event{Kind: Call, Request: "again"}); err != nil {
			t.Errorf("a disk with room again: %v", err)
		}
		stop()
		for _, e := range readLines(t, dir.Path("audit/audit.jsonl")) {
			if e.Request == "refused" || e.Kind == Gap {
				t.Errorf("%+v: whoever waits was told, and counts for nothing lost", e)
			}
		}
	})
}

// BenchmarkCall is what a call costs in the record: one line when it has ended, as it was before there were two; two lines;
// and two of which the first is waited for.
func BenchmarkCall(b *testing.B) {
	verdict := Event{
		Kind: Call, Request: strings.Repeat("A", 26), API: "orders", Method: "GET", Path: "/orders/4711",
		Caller: "key:sp_abcdef", Verdict: Allowed, Rule: "GET /orders/**",
	}
	done := Event{Kind: Done, Request: verdict.Request, API: "orders", Status: 200, Out: 900, Millis: 1.25}
	one := verdict
	one.Status, one.Out, one.Millis = done.Status, done.Out, done.Millis
	for _, way := range []struct {
		name string
		call func(*Log)
	}{
		{"one line", func(l *Log) { l.Record(one) }},
		{"two lines", func(l *Log) { l.Record(verdict); l.Record(done) }},
		{"committed", func(l *Log) {
			if err := l.Commit(context.Background(), verdict); err != nil {
				b.Error(err)
			}
			l.Record(done)
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			dir, err := state.Open(filepath.Join(b.TempDir(), "state"))
			if err != nil {
				b.Fatal(err)
			}
			l, err := Open(dir, Options{Queue: 1 << 20})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() { _ = l.Run(ctx) })
			b.SetParallelism(32)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					way.call(l)
				}
			})
			cancel()
			wg.Wait() // what is queued is a part of the price
			if n := l.lost.Load(); n > 0 {
				b.Fatalf("%d events were lost", n)
			}
		})
	}
}

// Where two agents run, the second says what it waits for, and goes on when the first has ended.
func TestASecondWriterWaitsAndSaysSo(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	endFirst := running(t, openLog(t, dir, Options{}))
	words := make(said, 1)
	opened := make(chan *Log)
	go func() {
		l, err := Open(dir, Options{Log: slog.New(slog.NewTextHandler(words, nil))})
		if err != nil {
			t.Error(err)
		}
		opened <- l
	}()
	if text := <-words; !strings.Contains(text, "another process writes the record") {
		t.Errorf("it said %q", text)
	}
	endFirst()
	if second := <-opened; second != nil {
		running(t, second)()
	}
}

// What is said to it can be received.
type said chan string

func (s said) Write(p []byte) (int, error) {
	s <- string(p)
	return len(p), nil
}
