package systemd

import (
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What systemd is given to keep is a listener that takes connections when the one of this process is closed, and while that is
// open it waits for them no differently.
func TestAListenerIsKept(t *testing.T) {
	t.Parallel()
	m := newManager(t, socketPath(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	Open(m.get, slog.New(slog.DiscardHandler)).Keep(l)
	if words := m.next(); strings.Join(words, " ") != "FDSTOREREMOVE=1 FDNAME=sallyport" {
		t.Errorf("first was said %q", words)
	}
	text, rights := make([]byte, 4096), make([]byte, syscall.CmsgSpace(4))
	_ = m.conn.SetReadDeadline(time.Now().Add(patience))
	n, oobn, _, _, err := m.conn.ReadMsgUnix(text, rights)
	if err != nil || string(text[:n]) != "FDSTORE=1\nFDNAME=sallyport" {
		t.Fatalf("then %q, %v", text[:n], err)
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:oobn])
	if err != nil || len(messages) != 1 {
		t.Fatalf("with it came %d messages, %v", len(messages), err)
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("%d files, %v", len(fds), err)
	}
	file := os.NewFile(uintptr(fds[0]), "kept")
	defer file.Close()
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := l.Accept(); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("Accept gave %v: does it block?", err)
	}
	_ = l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatalf("nobody waits for connections meanwhile: %v", err)
	}
	defer conn.Close()
	if out, err := passOn(file, "pid"); err != nil || out != l.Addr().String() {
		t.Errorf("the next process found %q, %v", out, err)
	}
	if out, err := passOn(file, "1"); err != nil || out != "none" {
		t.Errorf("what is for another process was taken: %q, %v", out, err)
	}
}

// passOn starts this program again as TestHelperTakesKept, and gives what it says.
func passOn(file *os.File, pid string) (string, error) {
	if pid == "pid" {
		pid = "$$"
	}
	cmd := exec.Command("/bin/sh", "-c", "LISTEN_PID="+pid+` LISTEN_FDS=1 exec "$0" -test.run='^TestHelperTakesKept$'`, os.Args[0])
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), "TAKES_KEPT=1"), []*os.File{file}
	out, err := cmd.Output()
	said, _, _ := strings.Cut(string(out), "\n")
	return said, err
}

// TestHelperTakesKept is no test: it is the next process of TestAListenerIsKept.
func TestHelperTakesKept(*testing.T) {
	if os.Getenv("TAKES_KEPT") == "" {
		return
	}
	l := Kept(os.Getenv, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if l == nil {
		_, _ = io.WriteString(os.Stdout, "none\n")
		return
	}
	_, _ = io.WriteString(os.Stdout, l.Addr().String()+"\n")
	_ = l.Close()
}

// What is no listener, and numbers that are none, are not taken for one.
func TestOddFilesAreNotKept(t *testing.T) {
	t.Parallel()
	for _, env := range []map[string]string{
		{},
		{"LISTEN_FDS": "1"},
		{"LISTEN_PID": "x", "LISTEN_FDS": "1"},
		{"LISTEN_PID": strconv.Itoa(os.Getpid()), "LISTEN_FDS": "-1"},
		{"LISTEN_PID": strconv.Itoa(os.Getpid()), "LISTEN_FDS": "9999"},
	} {
		if l := Kept(func(name string) string { return env[name] }, slog.New(slog.DiscardHandler)); l != nil {
			t.Errorf("%v gave a listener", env)
		}
	}
}
