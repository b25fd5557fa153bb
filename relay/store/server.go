package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// startServer runs a JetStream server in this process: no listener, no signal handler, its log in capture.
func startServer(dir string, capture *serverLog) (*server.Server, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName:             "sallyport-relay",
		DontListen:             true,
		NoSigs:                 true,
		JetStream:              true,
		StoreDir:               dir,
		SyncAlways:             true,
		DisableJetStreamBanner: true,
		// The limits of the streams are the ones that count. Left alone, the server takes a share of the free space
		// at the start as the limit, and a relay on a nearly full disk could not open its own store.
		JetStreamMaxStore:  1 << 50,
		JetStreamMaxMemory: 64 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("configure the embedded server: %w", err)
	}
	srv.SetLoggerV2(capture, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(startTimeout) || !srv.JetStreamEnabled() {
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, fmt.Errorf("start the embedded server: %w", capture.failure())
	}
	return srv, nil
}

// stopServer waits for the server's files to be closed, but not longer than ctx.
func stopServer(ctx context.Context, srv *server.Server) error {
	done := make(chan struct{})
	// Shutdown cannot be interrupted; when ctx ends first this goroutine outlives us, and the process is about to end.
	go func() {
		defer close(done)
		srv.Shutdown()
		srv.WaitForShutdown()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop the embedded server: %w", context.Cause(ctx))
	}
}

// serverLog is the embedded server's log, in ours. What the server calls a notice is of no interest to an operator,
// and its fatal errors must not end the process, as its own logger would.
type serverLog struct {
	log *slog.Logger

	mu    sync.Mutex
	fatal string // guarded by mu: the last fatal error or error
}

func (l *serverLog) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal == "" {
		return errors.New("it did not become ready in time")
	}
	return errors.New(l.fatal)
}

// last is the server's last error, "" for none.
func (l *serverLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

func (l *serverLog) keep(format string, v ...any) string {
	text := strings.TrimSpace(fmt.Sprintf(format, v...))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fatal = text
	return text
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("nats", "text", strings.TrimSpace(fmt.Sprintf(format, v...)))
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.log.Warn("nats", "text", strings.TrimSpace(fmt.Sprintf(format, v...)))
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.log.Error("nats", "text", l.keep(format, v...))
}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.log.Error("nats", "text", l.keep(format, v...))
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
