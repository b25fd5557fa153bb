package audit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/agent/state"
	"sallyport/tunnel"
)

func testKey(name string) (key func() crypto.Signer, fingerprint string) {
	seed := sha256.Sum256([]byte(name))
	private := ed25519.NewKeyFromSeed(seed[:])
	return func() crypto.Signer { return private }, tunnel.Fingerprint(private.Public().(ed25519.PublicKey))
}

// recorded writes n calls in a process of its own, as it were, which ends with a seal.
func recorded(t *testing.T, dir state.Dir, o Options, n int) {
	t.Helper()
	if o.Key == nil {
		o.Key, _ = testKey("agent")
	}
	l := openLog(t, dir, o)
	for i := range n {
		l.write([]entry{{Event: Event{Time: time.Now(), Kind: Call, Request: fmt.Sprintf("r%d", i)}}})
	}
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, dir state.Dir) *Report {
	t.Helper()
	_, fingerprint := testKey("agent")
	rep, err := Verify(t.Context(), dir, []string{fingerprint}, Witness{})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func whole(t *testing.T, dir state.Dir) *Report {
	t.Helper()
	rep := verify(t, dir)
	if rep.Fault != nil {
		t.Fatalf("%v, want a whole record: %+v", rep.Fault, rep)
	}
	return rep
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The record of this test: 1 begin, 2-4 calls, 5 seal, 6 begin, 7-9 calls, 10 seal.
func TestAlteredRecordIsNamed(t *testing.T) {
	t.Parallel()
	forged, _ := testKey("stranger")
	for name, c := range map[string]struct {
		alter func(lines [][]byte) [][]byte
		line  int
		n     uint64
		what  string
	}{
		"edited":       {func(l [][]byte) [][]byte { l[2] = bytes.Replace(l[2], []byte("r1"), []byte("r9"), 1); return l }, 3, 3, "altered"},
		"hash edited":  {func(l [][]byte) [][]byte { l[2] = bytes.Replace(l[2], []byte(`"h":"`), []byte(`"h":"A`), 1); return l }, 3, 3, "end in its hash"},
		"no record":    {func(l [][]byte) [][]byte { l[2] = []byte("x\n"); return l }, 3, 3, "not a record"},
		"deleted":      {func(l [][]byte) [][]byte { return append(l[:2:2], l[3:]...) }, 3, 3, "missing"},
		"swapped":      {func(l [][]byte) [][]byte { l[1], l[2] = l[2], l[1]; return l }, 2, 2, "missing"},
		"repeated":     {func(l [][]byte) [][]byte { l[3] = l[2]; return l }, 4, 4, "stands where"},
		"first gone":   {func(l [][]byte) [][]byte { return l[1:] }, 1, 2, "first one that is left"},
		"process gone": {func(l [][]byte) [][]byte { return l[5:] }, 0, 1, "no sealed checkpoint"},
		"end cut":      {func(l [][]byte) [][]byte { return l[:9] }, 0, 10, "missing at the end"},
		"all cut":      {func(l [][]byte) [][]byte { return nil }, 0, 1, "missing at the end"},
		"chained anew": {func(l [][]byte) [][]byte { return rechain(t, l, nil) }, 5, 5, "signature does not fit"},
		"sealed anew":  {func(l [][]byte) [][]byte { return rechain(t, l, forged()) }, 5, 5, "never was this agent's"},
		"version 1":    {func(l [][]byte) [][]byte { l[2] = []byte(`{"v":1,"event":"call"}` + "\n"); return l }, 3, 3, "version 1"},
		"version 3":    {func(l [][]byte) [][]byte { l[2] = []byte(`{"v":3,"event":"call"}` + "\n"); return l }, 3, 3, "format 3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := stateDir(t)
			recorded(t, dir, Options{}, 3)
			recorded(t, dir, Options{}, 3)
			if rep := whole(t, dir); rep.Sealed != 10 || rep.Last != 10 {
				t.Fatalf("%+v, want 10 records, all sealed", rep)
			}
			path := dir.Path("audit/audit.jsonl")
			lines := bytes.SplitAfter(read(t, path), []byte("\n"))
			write(t, path, bytes.Join(c.alter(lines[:len(lines)-1]), nil))
			f := verify(t, dir).Fault
			if f == nil || f.Line != c.line || f.N != c.n || f.File != current || !strings.Contains(f.What, c.what) {
				t.Errorf("%+v, want line %d, record %d: %s", f, c.line, c.n, c.what)
			}
		})
	}
}

// rechain alters a call and computes all hashes anew, and with a key the seals too, as a thief of the disk can.
func rechain(t *testing.T, lines [][]byte, key crypto.Signer) (out [][]byte) {
	t.Helper()
	var at link
	for i, line := range lines {
		r, err := parse(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			t.Fatal(err)
		}
		var b []byte
		if i == 2 {
			r.body = bytes.Replace(r.body, []byte("r1"), []byte("r9"), 1)
		}
		if r.Kind == Seal && key != nil {
			if b, at, err = at.appendSeal(nil, key, r.Time); err != nil {
				t.Fatal(err)
			}
		} else {
			b, at = at.close(bytes.Clone(r.body), 0)
		}
		out = append(out, b)
	}
	return out
}

// An old file put back, a file that is missing and one of another agent are found; retention is not mistaken for them.
func TestFilesAreOneChain(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	o := Options{MaxBytes: 4000, MaxFiles: 3}
	recorded(t, dir, o, 40)
	names, err := filepath.Glob(dir.Path("audit/audit-*.jsonl"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%v, %v", names, err)
	}
	first := names[0]
	old := read(t, first)
	for len(names) > 0 && names[0] == first { // until retention has deleted it
		recorded(t, dir, o, 10)
		if names, err = filepath.Glob(dir.Path("audit/audit-*.jsonl")); err != nil {
			t.Fatal(err)
		}
	}
	if rep := whole(t, dir); rep.First == 1 {
		t.Fatalf("%+v: nothing was deleted", rep)
	}
	middle := read(t, names[1])
	for name, alter := range map[string]func(){
		"old file put back":    func() { write(t, names[1], old) },
		"file missing":         func() { write(t, names[1], nil) },
		"oldest file missing":  func() { write(t, names[0], nil) },
		"current file missing": func() { write(t, dir.Path("audit/audit.jsonl"), nil) },
		"end of a file cut":    func() { write(t, names[1], middle[:len(middle)-3]) },
		"head emptied":         func() { write(t, dir.Path("audit/audit.head"), nil) },
		"head missing": func() {
			if err := os.Remove(dir.Path("audit/audit.head")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		restore := map[string][]byte{}
		for _, path := range append([]string{dir.Path("audit/audit.jsonl"), dir.Path("audit/audit.head")}, names...) {
			restore[path] = read(t, path)
		}
		alter()
		if rep := verify(t, dir); rep.Fault == nil {
			t.Errorf("%s: nothing found: %+v", name, rep)
		}
		for path, b := range restore {
			write(t, path, b)
		}
	}
	whole(t, dir)
}

// What a crash leaves is told from what a hand leaves: a line without an end is not a fault, and the next process says so.
func TestTornLineIsNoFault(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	recorded(t, dir, Options{}, 3)
	path := dir.Path("audit/audit.jsonl")
	write(t, path, append(read(t, path), `{"v":2,"n":6,"time":"20`...))
	if rep := whole(t, dir); rep.Torn != 23 || rep.Sealed != 5 {
		t.Errorf("%+v, want 23 torn bytes after 5 sealed records", rep)
	}
	recorded(t, dir, Options{}, 1)
	if rep := whole(t, dir); rep.Torn != 0 || !strings.Contains(string(read(t, path)), "23 bytes of a line without an end were removed") {
		t.Errorf("%+v:\n%s", rep, read(t, path))
	}
}

// A start after sealed records were cut off says so for good.
func TestStartFindsACutEnd(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	recorded(t, dir, Options{}, 3)
	path := dir.Path("audit/audit.jsonl")
	lines := bytes.SplitAfter(read(t, path), []byte("\n"))
	write(t, path, bytes.Join(lines[:3], nil))
	recorded(t, dir, Options{}, 3)
	if f := verify(t, dir).Fault; f == nil || f.N != 5 || f.Line != 5 || !strings.Contains(f.What, "was record 5") {
		t.Errorf("%+v, want the record 'broken'", f)
	}
}

// A damaged head file, or a last line that is no record, does not keep the agent from starting, and is on record for good.
func TestStartFindsDamage(t *testing.T) {
	t.Parallel()
	for name, what := range map[string]string{headFile: "audit.head was damaged", current: "not a record"} {
		dir := stateDir(t)
		recorded(t, dir, Options{}, 3)
		path := dir.Path("audit/" + name)
		lines := bytes.SplitAfter(read(t, path), []byte("\n"))
		lines[len(lines)-2] = []byte("x\n")
		write(t, path, bytes.Join(lines, nil))
		recorded(t, dir, Options{}, 3)
		if f := verify(t, dir).Fault; f == nil || !strings.Contains(f.What, what) {
			t.Errorf("%s: %+v, want a fault: %s", name, f, what)
		}
		if text := string(read(t, dir.Path("audit/audit.jsonl"))); strings.Count(text, `"event":"broken"`) != 1 {
			t.Errorf("%s: not one 'broken':\n%s", name, text)
		}
	}
}

// The lines of version 1 stay readable, and from the first start on nobody can change the last one.
func TestVersion1GoesBefore(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	if _, err := dir.Sub(subdirectory); err != nil {
		t.Fatal(err)
	}
	path := dir.Path("audit/audit.jsonl")
	old := `{"v":1,"time":"2026-01-02T03:04:05Z","event":"call"}` + "\n" + `{"v":1,"time":"2026-01-02T03:04:06Z","event":"stop"}` + "\n"
	write(t, path, []byte(old))
	recorded(t, dir, Options{}, 2)
	if rep := whole(t, dir); rep.Legacy != 2 || rep.First != 1 || rep.Sealed != 4 {
		t.Errorf("%+v, want 2 lines and 4 records", rep)
	}
	now := read(t, path)
	write(t, path, bytes.Replace(now, []byte("04:06Z"), []byte("04:07Z"), 1))
	if f := verify(t, dir).Fault; f == nil || f.N != 1 {
		t.Errorf("%+v, want a fault of record 1", f)
	}
	write(t, path, now[len(old):])
	if f := verify(t, dir).Fault; f == nil || f.N != 1 {
		t.Errorf("%+v, want a fault of record 1", f)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	l := openLog(t, dir, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if unlock, err := l.file.dir.Lock(ctx, lockFile); err == nil {
		unlock()
		t.Error("the record is not locked while it is open")
	}
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	if err := openLog(t, dir, Options{}).finish(); err != nil {
		t.Fatal(err)
	}
}

// A process that is killed while it writes leaves a record that is whole but for a torn end, whenever it is killed.
func TestKilledInMidWrite(t *testing.T) {
	if path := os.Getenv("AUDIT_TEST_STATE"); path != "" { // the process to kill
		dir, err := state.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		l := openLog(t, dir, Options{MaxBytes: 50_000, MaxFiles: 3, Key: func() crypto.Signer { k, _ := testKey("agent"); return k() }})
		for {
			l.write([]entry{{Event: Event{Time: time.Now(), Kind: Call, Path: strings.Repeat("/x", 500)}}})
			if l.file.link.n%50 == 0 {
				if err := l.file.seal(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Parallel()
	dir := stateDir(t)
	for round := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledInMidWrite$")
		cmd.Env = append(os.Environ(), "AUDIT_TEST_STATE="+dir.String())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := dirSize(dir)
		for end := time.Now().Add(30 * time.Second); dirSize(dir) == before && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(time.Duration(round) * 37 * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		if rep := whole(t, dir); rep.Last == 0 {
			t.Fatalf("%+v: nothing was written", rep)
		}
	}
}

func dirSize(dir state.Dir) (n int64) {
	names, _ := filepath.Glob(dir.Path("audit/audit*.jsonl"))
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			n += info.Size()
		}
	}
	return n
}

// Whatever is in a line, reading it neither fails badly nor makes more of it than was hashed.
func FuzzParse(f *testing.F) {
	key, _ := testKey("agent")
	line, at := link{}.append(nil, Event{Kind: Call, Path: "/a"})
	f.Add(bytes.TrimSpace(line))
	seal, _, err := at.appendSeal(nil, key(), time.Unix(1, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.TrimSpace(seal))
	f.Add([]byte(`{"v":1,"event":"call"}`))
	f.Add([]byte(`{"v":2,"n":1,"time":"h":"`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parse(line)
		if err != nil || r.Version == 1 {
			return
		}
		if again := append(append(append([]byte(nil), r.body...), hashMark...), encode(r.h[:])+`"}`...); !bytes.Equal(again, line) {
			t.Errorf("%q was read as %q", line, again)
		}
		_, _ = r.signer(at) // must not panic
	})
}
