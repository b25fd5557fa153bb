package systemd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// patience is for slow machines: nothing waits so long unless it is broken.
const patience = 30 * time.Second

// A manager is systemd's end of the socket.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	env  map[string]string
}

func newManager(t *testing.T, name string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &manager{t, conn, map[string]string{"NOTIFY_SOCKET": name}}
}

func socketPath(t *testing.T) string { return filepath.Join(t.TempDir(), "notify") }

func (m *manager) get(name string) string { return m.env[name] }

// next gives the words of the next datagram.
func (m *manager) next() []string {
	m.t.Helper()
	_ = m.conn.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	n, err := m.conn.Read(b)
	if err != nil {
		m.t.Fatalf("nothing was said: %v", err)
	}
	return strings.Split(string(b[:n]), "\n")
}

// until gives the first datagram that has the word.
func (m *manager) until(word string) []string {
	m.t.Helper()
	for {
		if words := m.next(); slices.Contains(words, word) {
			return words
		}
	}
}

func open(m *manager) *Notifier { return Open(m.get, slog.New(slog.DiscardHandler)) }

func TestAServiceIsSupervised(t *testing.T) {
	t.Parallel()
	abstract := fmt.Sprintf("@sallyport-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	for _, name := range []string{socketPath(t), abstract} {
		m := newManager(t, name)
		m.env["WATCHDOG_USEC"], m.env["WATCHDOG_PID"] = "30000", fmt.Sprint(os.Getpid())
		ctx, stop := context.WithCancel(t.Context())
		drained, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- open(m).Supervise(ctx, Service{
				Ask:  func(context.Context) (string, error) { return "2 links\nREADY=0", nil },
				Stop: func() time.Duration { return 45 * time.Second },
			}, func(ctx context.Context) error {
				<-ctx.Done()
				<-drained
				return errors.New("as it ended")
			})
		}()
		if words := m.next(); !slices.Equal(words, []string{"READY=1"}) {
			t.Errorf("%s: first it says %q", name, words)
		}
		if words := m.next(); !slices.Equal(words, []string{"WATCHDOG=1", "STATUS=2 links READY=0"}) {
			t.Errorf("%s: then it says %q", name, words)
		}
		for range 3 { // a status that is told already is not told again
			if words := m.next(); !slices.Equal(words, []string{"WATCHDOG=1"}) {
				t.Errorf("%s: then it says %q", name, words)
			}
		}
		stop()
		if words := m.until("STOPPING=1"); !slices.Contains(words, "EXTEND_TIMEOUT_USEC=45000000") {
			t.Errorf("%s: at its end it says %q", name, words)
		}
		m.until("STATUS=draining: 2 links READY=0")
		m.until("WATCHDOG=1") // it drains, and lives
		close(drained)
		if err := <-ended; err == nil || err.Error() != "as it ended" {
			t.Errorf("%s: it ended with %v", name, err)
		}
	}
}

// TestOnlyAnAnswerFeedsTheWatchdog: a process whose timers fire and whose work stands still is dead.
func TestOnlyAnAnswerFeedsTheWatchdog(t *testing.T) {
	t.Parallel()
	m := newManager(t, socketPath(t))
	m.env["WATCHDOG_USEC"] = "60000"
	var stuck atomic.Bool
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- open(m).Supervise(ctx, Service{Ask: func(ctx context.Context) (string, error) {
			if !stuck.Load() {
				return "well", nil
			}
			<-ctx.Done()
			return "", errors.New("the loop is stuck")
		}}, func(ctx context.Context) error { <-ctx.Done(); return nil })
	}()
	m.until("WATCHDOG=1")
	stuck.Store(true)
	if words := m.until("STATUS=does not answer: the loop is stuck"); slices.Contains(words, "WATCHDOG=1") {
		t.Errorf("a service that does not answer feeds the watchdog: %q", words)
	}
	_ = m.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // many times the period
	b := make([]byte, 4096)
	if n, err := m.conn.Read(b); err == nil {
		t.Errorf("a service that does not answer says %q", b[:n])
	}
	stuck.Store(false)
	if words := m.until("WATCHDOG=1"); !slices.Contains(words, "STATUS=well") {
		t.Errorf("when it answers again it says %q", words)
	}
	stop()
	<-ended
}

func TestAReloadIsFramed(t *testing.T) {
	t.Parallel()
	m := newManager(t, socketPath(t))
	done := open(m).Reloading()
	words := m.next()
	usec, is := strings.CutPrefix(words[len(words)-1], "MONOTONIC_USEC=")
	if words[0] != "RELOADING=1" || !is || len(usec) < 4 {
		t.Errorf("a reload begins with %q", words)
	}
	done()
	if words := m.next(); !slices.Equal(words, []string{"READY=1"}) {
		t.Errorf("a reload ends with %q", words)
	}
}

func TestWithoutSystemdNobodyIsTold(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "relative", "vsock:2:1"} {
		n := Open(func(name string) string { return map[string]string{"NOTIFY_SOCKET": address}[name] }, nil)
		if n != nil {
			t.Fatalf("NOTIFY_SOCKET=%q is taken for a socket", address)
		}
		n.Reloading()()
		ran := false
		if err := n.Supervise(t.Context(), Service{}, func(context.Context) error { ran = true; return nil }); err != nil || !ran {
			t.Errorf("it ran: %v, %v", ran, err)
		}
	}
}

// TestALostSocketIsNoFault: the service goes on without whom it tells.
func TestALostSocketIsNoFault(t *testing.T) {
	t.Parallel()
	env := map[string]string{"NOTIFY_SOCKET": socketPath(t)}
	var log strings.Builder
	n := Open(func(name string) string { return env[name] }, slog.New(slog.NewTextHandler(&log, nil)))
	n.Reloading()()
	if !strings.Contains(log.String(), "systemd could not be told") {
		t.Errorf("the log says %q", &log)
	}
}

func TestWatchdogsOfOthersAreNotFed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"60000000", "", time.Minute},
		{"60000000", fmt.Sprint(os.Getpid()), time.Minute},
		{"60000000", "1", 0},
		{"0", "", 0},
		{"-5", "", 0},
		{"", "", 0},
		{"99999999999999999999", "", 0},
		{"999999999999999999", "", 0},
	} {
		env := map[string]string{"WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid}
		if got := watchdog(func(name string) string { return env[name] }); got != c.want {
			t.Errorf("WATCHDOG_USEC=%q WATCHDOG_PID=%q: %v, want %v", c.usec, c.pid, got, c.want)
		}
	}
}

func TestAStatusIsOneShortLine(t *testing.T) {
	t.Parallel()
	if got := line("a\r\nWATCHDOG=1\x00\xff"); got != "a  WATCHDOG=1 ?" {
		t.Errorf("%q", got)
	}
	if got := line(strings.Repeat("ä", 1000)); len([]rune(got)) != textLimit+3 {
		t.Errorf("%d characters", len([]rune(got)))
	}
}

// TestTheStartIsToldSoon: what a service says at its very start is old a moment later, and not told for long.
func TestTheStartIsToldSoon(t *testing.T) {
	t.Parallel()
	m := newManager(t, socketPath(t))
	ctx, stop := context.WithCancel(t.Context())
	var asked atomic.Int64
	ended := make(chan error, 1)
	go func() {
		ended <- open(m).Supervise(ctx, Service{Ask: func(context.Context) (string, error) {
			return fmt.Sprintf("%d links", asked.Add(1)-1), nil
		}}, func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		})
	}()
	m.until("STATUS=0 links")
	began := time.Now()
	m.until("STATUS=1 links")
	if took := time.Since(began); took > askEvery-time.Second {
		t.Errorf("the second status came after %s", took)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
