//go:build unix

package store_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"sallyport/relay/store"
)

// writerDir is the variable that makes the test binary a process that writes to the store in this folder.
const writerDir = "SALLYPORT_TEST_WRITER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		writeUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

// writeUntilKilled counts upwards in ten keys and prints each number that the store has acknowledged.
func writeUntilKilled(dir string) {
	ctx := context.Background()
	st, err := store.Open(ctx, store.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	b, err := st.Bucket(ctx, "things")
	if err != nil {
		fmt.Println("bucket:", err)
		os.Exit(1)
	}
	start := 0
	if e, err := b.Get(ctx, "start"); err == nil {
		start, _ = strconv.Atoi(string(e.Value))
	}
	for i := start; ; i++ {
		if _, err := b.Put(ctx, fmt.Sprint("key", i%10), fmt.Append(nil, i)); err != nil {
			fmt.Println("put:", err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

// TestKillLosesNothingAcknowledged kills the process that writes, in the middle of its writes and several times on the
// same store, and wants everything that was acknowledged.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := 0
	for round := range 4 {
		last := start + killAfter(t, dir, 40+17*round)
		st := open(t, dir)
		b := bucket(t, st, "things")
		for i := max(start, last-9); i <= last; i++ {
			e, err := b.Get(t.Context(), fmt.Sprint("key", i%10))
			if err != nil {
				t.Fatal(err)
			}
			// The one that was being written when the process died may be there or not.
			if got, _ := strconv.Atoi(string(e.Value)); got != i && got != i+10 {
				t.Errorf("round %d: key%d is %d, acknowledged was %d", round, i%10, got, i)
			}
		}
		start = (last/10 + 2) * 10
		if _, err := b.Put(t.Context(), "start", fmt.Append(nil, start)); err != nil {
			t.Fatal(err)
		}
		closeStore(t, st)
	}
}

// killAfter runs a writer, kills it after it has acknowledged so many writes, and returns the number of the last
// acknowledged one, relative to the first.
func killAfter(t *testing.T, dir string, writes int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() // its error is that it was killed
	defer cmd.Process.Kill()
	lines := bufio.NewReader(out)
	first, last := -1, -1
	for n := 0; ; n++ {
		line, err := lines.ReadString('\n')
		if err == io.EOF && n >= writes {
			return last - first
		}
		if err != nil {
			t.Fatalf("after %d lines: %v", n, err)
		}
		if last, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
			t.Fatalf("the writer says %q", line)
		}
		if first < 0 {
			first = last
		}
		if n == writes {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
