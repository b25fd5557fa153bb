package logfile

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/agent/state"
)

func open(t *testing.T) (*File, state.Dir) {
	t.Helper()
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	l := new(File)
	if _, err := l.Write([]byte("before it is opened\n")); err != nil {
		t.Error(err)
	}
	if err := l.Open(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, dir
}

func names(t *testing.T, dir state.Dir) []string {
	t.Helper()
	sub, err := state.Open(dir.Path(folder))
	if err != nil {
		t.Fatal(err)
	}
	list, err := files(sub)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestFilesOfDays: a file a day, and after two weeks none of the old ones; a program that is started again goes on with the day's.
func TestFilesOfDays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // it begins at 2000-01-01
		l, dir := open(t)
		log := slog.New(slog.NewTextHandler(l, nil))
		for i := range 3 {
			log.Info("day", "number", i)
			time.Sleep(24 * time.Hour)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Open(dir); err != nil {
			t.Fatal(err)
		}
		log.Info("the same day")
		first := day(time.Now().Add(-3 * 24 * time.Hour))
		if got := names(t, dir); len(got) != 4 || got[0] != prefix+first+"-0001"+suffix {
			t.Errorf("%q", got)
		}
		text, err := Newest(dir, 1<<20)
		if err != nil || strings.Count(string(text), "\n") != 4 || !strings.HasSuffix(string(text), "msg=\"the same day\"\n") || strings.Contains(string(text), "before") {
			t.Errorf("%v\n%s", err, text)
		}
		time.Sleep(maxAge + time.Hour)
		log.Info("later")
		if got := names(t, dir); len(got) != 2 || got[1] != prefix+day(time.Now())+"-0001"+suffix {
			t.Errorf("after two weeks there are %q", got)
		}
	})
}

// TestFilesAreBounded: a full one is followed by another, and the oldest go.
func TestFilesAreBounded(t *testing.T) {
	t.Parallel()
	l, dir := open(t)
	line := []byte(strings.Repeat("x", 64<<10) + "\n")
	for range (maxFiles + 3) * maxSize / len(line) * 65 / 64 {
		if n, err := l.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	got := names(t, dir)
	if len(got) > maxFiles+1 || len(got) < maxFiles || strings.HasSuffix(got[0], "-0001"+suffix) {
		t.Errorf("%d files, from %s", len(got), got[0])
	}
	text, err := Newest(dir, 1<<20)
	if err != nil || len(text) < 1<<20 && len(got) == 1 || len(text) > 3*maxSize {
		t.Errorf("the newest megabyte has %d bytes: %v", len(text), err)
	}
}

// TestADiskThatRefuses: who logs does not see it, and the log says afterwards how many lines are missing.
func TestADiskThatRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, dir := open(t)
		l.mu.Lock()
		l.f.Close() // the next write fails, as on a disk that has gone
		l.mu.Unlock()
		for range 5 {
			if n, err := l.Write([]byte("lost\n")); n != 5 || err != nil {
				t.Error(n, err)
			}
		}
		time.Sleep(openAgain)
		_, _ = l.Write([]byte("kept\n"))
		text, err := Newest(dir, 1000)
		if err != nil || strings.Contains(string(text), "lost\n") || !strings.HasSuffix(string(text), "lines=5\nkept\n") {
			t.Errorf("%v\n%s", err, text)
		}
	})
}

func TestNoneIsKept(t *testing.T) {
	t.Parallel()
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Newest(dir, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	list, err := os.ReadDir(dir.String())
	if diff := cmp.Diff(0, len(list)); diff != "" || err != nil {
		t.Errorf("to look has made something: %v, %v", list, err)
	}
}
