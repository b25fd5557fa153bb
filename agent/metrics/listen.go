package metrics

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// maxConnections bounds those that are open at once: one scraper needs one.
	maxConnections = 16
	// patience is how long a connection may take to send its request, and to take the answer.
	patience = 10 * time.Second
	// idle is how long a connection is kept for the next scrape.
	idle = 2 * time.Minute
	// again is how soon an address that could not be had is tried again.
	again = time.Minute
)

// CheckAddress says what is wrong with an address to listen at. It must be a loopback address, in figures: what a name leads
// to is for others to change.
func CheckAddress(address string) error {
	const write = "(write 127.0.0.1:9464)"
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is no address %s", address, write)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no port from 1 to 65535 %s", address, write)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return fmt.Errorf("%q is not a loopback address in figures %s", host, write)
	}
	if !ip.Unmap().IsLoopback() {
		return fmt.Errorf("%s is not a loopback address: the agent listens to this machine alone %s", host, write)
	}
	return nil
}

// Serve answers scrapes at the address until ctx ends. An address that cannot be had is told, and tried again: calls matter
// more than their count. An address that CheckAddress refuses is an error.
func (m *Metrics) Serve(ctx context.Context, address string, l *slog.Logger) error {
	if err := CheckAddress(address); err != nil {
		return err
	}
	told := ""
	for ctx.Err() == nil {
		// Here, and nowhere else, the agent listens: on loopback, if agent.yaml asks for it.
		ln, err := net.Listen("tcp", address)
		if err == nil {
			told = ""
			l.Info("metrics are offered", "at", "http://"+ln.Addr().String()+"/metrics")
			err = m.serve(ctx, ln, l)
		}
		if err != nil && err.Error() != told {
			told = err.Error()
			l.Error("the metrics cannot be offered; calls go on, and it is tried again", "address", address, "error", err)
		}
		wait(ctx, again)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// serve answers on ln until ctx ends, which is no error.
func (m *Metrics) serve(ctx context.Context, ln net.Listener, l *slog.Logger) error {
	srv := &http.Server{
		Handler: m.Handler(), ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: idle, MaxHeaderBytes: 16 << 10,
		ErrorLog: log.New(debugLog{l}, "", 0),
	}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(netutil.LimitListener(ln, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// debugLog takes what net/http has to say of connections.
type debugLog struct{ *slog.Logger }

func (d debugLog) Write(text []byte) (int, error) {
	d.Debug("a scraper's connection", "error", strings.TrimSpace(string(text)))
	return len(text), nil
}

// Handler answers GET /metrics, to whoever asks for this machine by a loopback address or as localhost. A page of the
// Internet in a browser on this machine can have its own name lead here, but not ask under another (DNS rebinding).
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		text := m.Text()
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write(text) // the scraper has gone
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback(r.Host) {
			http.Error(w, "ask for 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}
