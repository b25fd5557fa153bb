package operation_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/relay/operation"
	"sallyport/relay/store"
)

var secret = bytes.Repeat([]byte{7}, 32)

// A shelf is a store that can be closed and opened again.
type shelf struct {
	t       *testing.T
	dir     string
	st      *store.Store
	objects *store.Objects
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{t: t, dir: t.TempDir()}
	s.open()
	t.Cleanup(func() { _ = s.st.Close(context.Background()) })
	return s
}

func (s *shelf) open() {
	s.t.Helper()
	ctx := context.Background()
	var err error
	if s.st, err = store.Open(ctx, store.Config{Dir: s.dir, Log: slog.New(slog.DiscardHandler)}); err != nil {
		s.t.Fatal(err)
	}
	if s.objects, err = s.st.Objects(ctx, "operations", 64<<20, time.Hour); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) ledger(c operation.Config) *operation.Ledger {
	s.t.Helper()
	c.Objects = s.objects
	if c.Secret == nil {
		c.Secret = secret
	}
	l, err := operation.Open(context.Background(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// again is the ledger after the process was killed and has started again.
func (s *shelf) again(c operation.Config) *operation.Ledger {
	_ = s.st.Close(context.Background())
	s.open()
	return s.ledger(c)
}

func begin(t *testing.T, l *operation.Ledger, connector, token string) *operation.Run {
	t.Helper()
	run, err := l.Begin(t.Context(), connector, token, operation.Record{Request: "REQ"}, false)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func answer(t *testing.T, run *operation.Run, body string) {
	t.Helper()
	run.Answer(t.Context(), 201, http.Header{"X-A": {"1", "2"}}, false)
	for len(body) > 0 {
		n := min(len(body), 1000)
		if _, err := io.WriteString(run, body[:n]); err != nil {
			t.Fatal(err)
		}
		body = body[n:]
	}
	if err := run.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func find(t *testing.T, l *operation.Ledger, connector, token string) (*operation.Found, string) {
	t.Helper()
	f, err := l.Find(t.Context(), connector, token)
	if err != nil {
		t.Fatal(err)
	}
	if f.Body == nil {
		return f, ""
	}
	defer f.Body.Close()
	b, err := io.ReadAll(f.Body)
	if err != nil {
		t.Fatal(err)
	}
	return f, string(b)
}

func TestAnswerOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	l := s.ledger(operation.Config{})
	for _, body := range []string{"", "short", strings.Repeat("0123456789abcdef", 4096), strings.Repeat("x", 300_001)} {
		token := l.NewToken()
		run := begin(t, l, "c1", token)
		if f, _ := find(t, l, "c1", token); f.Run != run || f.State != operation.Running || f.Request != "REQ" {
			t.Errorf("while it runs: %+v", f)
		}
		run.SetBody([]byte("hash"))
		answer(t, run, body)
		<-run.Done()
		for range 2 {
			f, got := find(t, l, "c1", token)
			if f.State != operation.Answered || f.Status != 201 || got != body || string(f.Record.Body) != "hash" {
				t.Errorf("%d bytes: %s %d with %d", len(body), f.State, f.Status, len(got))
			}
			if diff := cmp.Diff(http.Header{"X-A": {"1", "2"}}, f.Header); diff != "" {
				t.Error(diff)
			}
			if _, err := l.Find(t.Context(), "c2", token); !errors.Is(err, operation.ErrNotFound) {
				t.Errorf("another connector gets it: %v", err)
			}
			l = s.again(operation.Config{})
		}
	}
}

func TestRunningAtACrashIsLost(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	l := s.ledger(operation.Config{})
	token := l.RepeatToken("c1", "POST", "/orders", "k")
	begin(t, l, "c1", token)
	l = s.again(operation.Config{})
	if l.RepeatToken("c1", "POST", "/orders", "k") != token {
		t.Error("the token of a repeat is another one after a restart")
	}
	if f, _ := find(t, l, "c1", token); f.State != operation.Lost || f.Request != "REQ" {
		t.Errorf("%+v", f)
	}
	if _, err := l.Begin(t.Context(), "c1", token, operation.Record{}, false); !errors.Is(err, operation.ErrKnown) {
		t.Errorf("it would run again: %v", err)
	}
}

// The store alone tells nothing: not the token, not the answer.
func TestStoreAloneTellsNothing(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	l := s.ledger(operation.Config{})
	token := l.NewToken()
	answer(t, begin(t, l, "c1", token), "the-secret-of-the-answer")
	list, err := s.objects.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	r, err := s.objects.Get(t.Context(), list[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, _ := io.ReadAll(r)
	for _, word := range []string{"secret", "REQ", "X-A", token, token[1:20]} {
		if strings.Contains(string(text)+list[0].Name, word) {
			t.Errorf("%q stands in the store", word)
		}
	}
	// Cut off, changed or under another name it is nothing.
	for what, bad := range map[string][]byte{
		"cut off": text[:len(text)-10], "changed": append(bytes.Clone(text[:len(text)-1]), text[len(text)-1]^1), "empty": nil,
	} {
		if _, err := s.objects.Put(t.Context(), list[0].Name, bytes.NewReader(bad)); err != nil {
			t.Fatal(err)
		}
		f, err := l.Find(t.Context(), "c1", token)
		if err == nil {
			_, err = io.ReadAll(f.Body)
		}
		if err == nil {
			t.Errorf("%s: it was read", what)
		}
	}
}

func TestTooLargeIsSaid(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	l := s.ledger(operation.Config{Answer: 1000})
	token := l.NewToken()
	run := begin(t, l, "c1", token)
	run.Answer(t.Context(), 200, nil, false)
	_, err := run.Write(make([]byte, 1001))
	if kept := run.Keep(t.Context()); !errors.Is(err, operation.ErrTooLarge) || !errors.Is(kept, operation.ErrTooLarge) {
		t.Errorf("written: %v, kept: %v", err, kept)
	}
	if f, _ := find(t, s.again(operation.Config{}), "c1", token); f.State != operation.Unkept {
		t.Errorf("the record says %s", f.State)
	}
}

func TestReplaceAndRelease(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	l := s.ledger(operation.Config{})
	token := l.RepeatToken("a")
	run := begin(t, l, "c1", token)
	run.Answer(t.Context(), 200, nil, false)
	_, _ = io.WriteString(run, "half of it")
	if err := run.Replace(t.Context(), 502, http.Header{"A": {"b"}}, []byte("broken"), true); err != nil {
		t.Fatal(err)
	}
	f, body := find(t, l, "c1", token)
	if f.Status != 502 || body != "broken" || !f.Again {
		t.Errorf("%+v %q", f, body)
	}
	run, err := l.Begin(t.Context(), "c1", token, operation.Record{Request: "2"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Begin(t.Context(), "c1", token, operation.Record{}, true); !errors.Is(err, operation.ErrKnown) {
		t.Errorf("it would run twice at once: %v", err)
	}
	run.Release(t.Context())
	if _, err := l.Find(t.Context(), "c1", token); !errors.Is(err, operation.ErrNotFound) {
		t.Errorf("after Release: %v", err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	l := s.ledger(operation.Config{})
	for _, token := range []string{l.NewToken(), l.RepeatToken("x")} {
		run := begin(t, l, "c1", token)
		run.SetCancel(func(cause error) {
			if !errors.Is(cause, operation.ErrCancelled) {
				t.Errorf("cancelled because of %v", cause)
			}
			run.Lose()
		})
		if err := l.Cancel(t.Context(), "c1", token); err != nil {
			t.Error(err)
		}
		f, err := l.Find(t.Context(), "c1", token)
		if repeat := token[0] == 'r'; repeat && (err != nil || f.State != operation.Lost) {
			t.Errorf("a repeat would run again: %v", err)
		} else if !repeat && !errors.Is(err, operation.ErrNotFound) {
			t.Errorf("a cancelled call is still there: %v", err)
		}
	}
	if err := l.Cancel(t.Context(), "c1", l.NewToken()); !errors.Is(err, operation.ErrNotFound) {
		t.Error(err)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	l := s.ledger(operation.Config{Running: 2, Kept: 3})
	busy := func(token string) bool {
		_, err := l.Begin(t.Context(), "c1", token, operation.Record{}, false)
		return errors.Is(err, operation.ErrBusy)
	}
	a, b := begin(t, l, "c1", l.NewToken()), begin(t, l, "c1", l.NewToken())
	if !busy(l.NewToken()) {
		t.Error("a third deferred call of one connector was admitted")
	}
	begin(t, l, "c2", l.NewToken()).Lose()
	if r := begin(t, l, "c1", l.RepeatToken("0")); !errors.Is(r.Defer(), operation.ErrBusy) {
		t.Error("a call became the third deferred one")
	} else {
		r.Release(t.Context())
	}
	for _, r := range []*operation.Run{a, b, begin(t, s.ledger(operation.Config{}), "c9", l.NewToken())} {
		answer(t, r, "x")
	}
	answer(t, begin(t, l, "c1", l.NewToken()), "x")
	if !busy(l.NewToken()) {
		t.Error("an answer was given up that somebody may come for")
	}
	for _, k := range []string{"1", "2", "3", "4"} {
		answer(t, begin(t, l, "c1", l.RepeatToken(k)), k)
	}
	if _, err := l.Find(t.Context(), "c1", l.RepeatToken("1")); !errors.Is(err, operation.ErrNotFound) {
		t.Errorf("the oldest of four repeats is still there: %v", err)
	}
	if _, got := find(t, l, "c1", l.RepeatToken("2")); got != "2" {
		t.Errorf("the second is %q", got)
	}
}

// One connector cannot take the room of the others.
func TestShare(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	c := operation.Config{Share: 100_000, Answer: 60_000}
	l := s.ledger(c)
	sixty := strings.Repeat("x", 60_000)
	keep := func(token string) error {
		run := begin(t, l, "c1", token)
		run.Answer(t.Context(), 200, nil, false)
		_, _ = io.WriteString(run, sixty)
		return run.Keep(t.Context())
	}
	first := l.NewToken()
	if err := keep(first); err != nil {
		t.Fatal(err)
	}
	if err := keep(l.RepeatToken("0")); !errors.Is(err, operation.ErrTooLarge) {
		t.Errorf("more than its share: %v", err)
	}
	if f, _ := find(t, l, "c1", l.RepeatToken("0")); f.State != operation.Unkept {
		t.Errorf("its record says %s", f.State)
	}
	answer(t, begin(t, l, "c2", l.NewToken()), sixty)
	l = s.again(c) // counted anew
	if err := keep(l.RepeatToken("1")); !errors.Is(err, operation.ErrTooLarge) {
		t.Errorf("more than its share, after a restart: %v", err)
	}
	if err := l.Cancel(t.Context(), "c1", first); err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // the oldest give way
		run := begin(t, l, "c1", l.RepeatToken("more", string(rune('a'+i))))
		answer(t, run, sixty[:20_000])
	}
	if _, err := l.Find(t.Context(), "c1", l.RepeatToken("more", "a")); !errors.Is(err, operation.ErrNotFound) {
		t.Errorf("the first of twenty: %v", err)
	}
	if list, err := s.objects.List(t.Context()); err != nil || len(list) > 6 {
		t.Errorf("%d records are in the store, %v", len(list), err)
	}
}

func TestKeptForItsTime(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	l := s.ledger(operation.Config{Keep: time.Nanosecond})
	token := l.RepeatToken("a")
	run := begin(t, l, "c1", token)
	if f, _ := find(t, l, "c1", token); f.Run == nil {
		t.Error("a call that runs was forgotten")
	}
	answer(t, run, "x")
	if _, err := l.Find(t.Context(), "c1", token); !errors.Is(err, operation.ErrNotFound) {
		t.Errorf("after its time: %v", err)
	}
}

func TestHook(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	l := s.ledger(operation.Config{})
	token := l.Hook("c1", "/hooks/7?a=%2F")
	if target, ok := l.CheckHook("c1", token); !ok || target != "/hooks/7?a=%2F" {
		t.Errorf("%q %v", target, ok)
	}
	other := s.ledger(operation.Config{Secret: bytes.Repeat([]byte{8}, 32)})
	for what, found := range map[string]func() (string, bool){
		"another connector": func() (string, bool) { return l.CheckHook("c2", token) },
		"another relay":     func() (string, bool) { return other.CheckHook("c1", token) },
		"another target":    func() (string, bool) { return l.CheckHook("c1", l.Hook("c1", "/hooks/7")[:43]+token[43:]) },
		"cut off":           func() (string, bool) { return l.CheckHook("c1", token[:len(token)-4]) },
		"empty":             func() (string, bool) { return l.CheckHook("c1", "") },
	} {
		if target, ok := found(); ok {
			t.Errorf("%s: the token stands for %q", what, target)
		}
	}
}
