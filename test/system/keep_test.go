//go:build linux

package system

import (
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A manager does what systemd does for a unit with FileDescriptorStoreMax=1: it keeps a file of the relay's, and passes it to
// the next one.
type manager struct {
	conn *net.UnixConn

	mu   sync.Mutex // guards kept
	kept *os.File
}

func newManager(t *testing.T, path string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{conn: conn}
	var reading sync.WaitGroup
	reading.Go(m.read)
	t.Cleanup(func() {
		_ = conn.Close()
		reading.Wait()
		m.drop()
	})
	return m
}

func (m *manager) read() {
	text, rights := make([]byte, 4096), make([]byte, syscall.CmsgSpace(4))
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(text, rights)
		if err != nil {
			return
		}
		lines := strings.Split(string(text[:n]), "\n")
		switch lines[0] {
		case "FDSTOREREMOVE=1":
			m.drop()
		case "FDSTORE=1":
			messages, err := syscall.ParseSocketControlMessage(rights[:oobn])
			if err != nil || len(messages) != 1 {
				continue
			}
			if fds, err := syscall.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
				m.mu.Lock()
				m.kept = os.NewFile(uintptr(fds[0]), "kept")
				m.mu.Unlock()
			}
		}
	}
}

func (m *manager) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept != nil {
		_ = m.kept.Close()
		m.kept = nil
	}
}

// file is a copy of what is kept; nil if nothing is. The relay that gets one has what is kept here closed when it stores its own.
func (m *manager) file(t *testing.T) *os.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil {
		return nil
	}
	fd, err := syscall.Dup(int(m.kept.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "kept")
}

func (m *manager) keeps() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept != nil
}

// TestRestartsWithAKeptListener: a relay whose listener systemd keeps is stopped by SIGTERM and started again, alone as it is,
// while callers call as fast as the machine lets them. No call fails: who connects meanwhile waits.
func TestRestartsWithAKeptListener(t *testing.T) {
	u := newUpstream(t)
	b := newBox(t, lean)
	m := newManager(t, b.path("notify"))
	b.relayEnv = []string{"NOTIFY_SOCKET=" + b.path("notify")}
	b.startRelay()
	if err := b.join(b.addGateway()); err != nil {
		t.Fatal(err)
	}
	b.configure(api("web", u.url, "", everything))
	b.startAgent()
	b.publish("web")
	b.awaitLinks(2)
	eventually(t, 10*time.Second, "the listener is kept", m.keeps)
	w := b.startCrowd(32, 0, 0)
	for range rounds(t) {
		time.Sleep(300 * time.Millisecond)
		b.relay.stop(t)
		kept := m.file(t)
		b.relay = startWith(t, "relay", b.logs["relay"], b.relayEnv, []*os.File{kept}, "/bin/sh", "-c",
			`LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve --config "$1"`, b.bin.relay, b.path("relay.yaml"))
		_ = kept.Close()
		b.awaitRelay()
		b.awaitLinks(2)
	}
	outcomes := w.stop(t, u)
	t.Logf("%d stops, %d calls", rounds(t), len(outcomes))
	if failed := failures(outcomes); len(failed) > 0 {
		t.Errorf("%d of %d calls failed:\n%s", len(failed), len(outcomes), show(failed))
	}
}
