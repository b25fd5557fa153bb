package systemd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"
)

// firstFile is where the files begin that systemd passes on (sd_listen_fds(3)).
const firstFile = 3

// mostFiles bounds what is believed of their number.
const mostFiles = 64

// Kept gives the listener that systemd has kept from the process before this one (Keep), or holds for it as a socket unit does; nil
// if there is none. What else was passed is closed. log takes what goes wrong with it.
func Kept(getenv func(string) string, log *slog.Logger) net.Listener {
	if getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 1 || n > mostFiles {
		return nil
	}
	var kept net.Listener
	for fd := range n {
		f := os.NewFile(uintptr(firstFile+fd), "listener")
		if f == nil {
			continue
		}
		if kept == nil {
			if kept, err = net.FileListener(f); err != nil { // which makes a copy, for this process alone
				log.Warn("what systemd has kept is no listener", "error", err)
				kept = nil
			}
		}
		_ = f.Close()
	}
	return kept
}

// Keep has systemd keep the listener while the service is restarted, if its unit says so (FileDescriptorStoreMax=): who connects
// meanwhile waits in the kernel's queue instead of being refused. One of an earlier time is given back.
func (n *Notifier) Keep(l net.Listener) {
	if n == nil {
		return
	}
	if err := n.keep(l); err != nil {
		n.log.Warn("systemd could not be asked to keep the listener over a restart", "error", err)
	}
}

// storedName is what the listener is called in systemd's store ('systemd-analyze fdstore').
const storedName = "sallyport"

func (n *Notifier) keep(l net.Listener) error {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"}) // not connected: files go with an address alone
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(sendLimit))
	if _, err := conn.WriteToUnix([]byte("FDSTOREREMOVE=1\nFDNAME="+storedName), n.address); err != nil {
		return err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return fmt.Errorf("a %T cannot be passed on", l)
	}
	raw, err := tcp.SyscallConn() // File would have the listener's own calls block
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		_, _, sent = conn.WriteMsgUnix([]byte("FDSTORE=1\nFDNAME="+storedName), rights(int(fd)), n.address)
	})
	return errors.Join(err, sent)
}
