package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// dialTimeout bounds the look whether anybody listens on a socket.
const dialTimeout = 2 * time.Second

// Listen makes the socket with mode 0600. A socket that nobody listens on, left by a relay that was killed, is
// replaced; one that somebody listens on, and any other file, is an error.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := clearStale(ctx, path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the admin socket: %w", err)
	}
	// The socket comes into being inside a folder that nobody else may enter and moves to its place with its final
	// mode: there is no moment at which it is open to others.
	private, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("make the admin socket %s: %w", path, err)
	}
	defer os.RemoveAll(private)
	born := filepath.Join(private, "s")
	l, err := new(net.ListenConfig).Listen(ctx, "unix", born)
	if err != nil {
		return nil, fmt.Errorf("make the admin socket %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err = os.Chmod(born, 0o600); err == nil {
		err = os.Rename(born, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the admin socket %s: %w", path, err), l.Close())
	}
	return &socket{Listener: l, path: path}, nil
}

// clearStale removes a socket that nobody listens on.
func clearStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the admin socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("the admin socket cannot be made: %s is another kind of file; remove it, or set another path as socket", path)
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("another relay answers on the admin socket %s; stop it first, or give this one a socket of its own", path)
	}
	if !refused(err) {
		return fmt.Errorf("look who listens on the admin socket: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the admin socket of a relay that has ended: %w", err)
	}
	return nil
}

// A socket removes its file when it is closed.
type socket struct {
	net.Listener
	path string
	once sync.Once
	err  error
}

func (s *socket) Close() error {
	s.once.Do(func() { s.err = errors.Join(s.Listener.Close(), os.Remove(s.path)) })
	return s.err
}
