package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sallyport/relay/connector"
	"sallyport/tunnel"
)

// headerSlack is how much more of a request's head net/http takes than the limit that the relay states: a head that is
// only a little too large gets an answer that says so, and one beyond that net/http's bare 431.
const headerSlack = 64 << 10

// uploadWindow is how much of a body one HTTP/2 stream may send ahead of who takes it. A connection may send as much for each
// of its streams: with less (net/http's default is one stream's window for all of them) one upload whose API does not take it
// would hold up every other body on the connection, which behind a balancer is other callers'. What the relay may come to
// hold is bounded by the calls that may be under way.
const uploadWindow = 1 << 20

// newServer is the only listener that faces callers and agents. It has no timeout for whole requests or answers, only
// for their heads and for silence: connector.Proxy sets a deadline for each read and write.
func (r *Relay) newServer(ctx context.Context) *http.Server {
	t := r.config.Timeouts
	caller := orElse(t.Caller, defaultCaller)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	// Behind a balancer, HTTP/2 without TLS, by prior knowledge alone: the upgrade from HTTP/1.1 does not exist here.
	protocols.SetUnencryptedHTTP2(r.certificates == nil)
	streams := orElse(r.config.Limits.StreamsPerConnection, 250)
	srv := &http.Server{
		Handler:                      r,
		Protocols:                    protocols,
		DisableGeneralOptionsHandler: true, // "OPTIONS *" would be answered 200 by net/http
		MaxHeaderBytes:               int(orElse(r.config.Limits.Header, defaultHeader)) + headerSlack,
		ReadHeaderTimeout:            orElse(t.Header, 20*time.Second),
		IdleTimeout:                  orElse(t.KeepAlive, 185*time.Second),
		ErrorLog:                     log.New(serverLog{r.log}, "", 0),
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ConnContext:                  connector.WithConn,
		ConnState:                    r.countCallers,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          streams,
			MaxReceiveBufferPerStream:     uploadWindow,
			MaxReceiveBufferPerConnection: min(streams, math.MaxInt32/uploadWindow) * uploadWindow,
			SendPingTimeout:               45 * time.Second,
			PingTimeout:                   15 * time.Second,
			WriteByteTimeout:              caller,
		},
	}
	if r.certificates != nil {
		srv.TLSConfig = r.certificates.TLS()
	}
	return srv
}

// countCallers follows the connections that are net/http's: links and upgraded exchanges are not any more. Fresh ones are those
// that have not sent a request yet.
func (r *Relay) countCallers(conn net.Conn, state http.ConnState) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, ok := conn.(*boundedConn)
	switch {
	case !ok:
	case state == http.StateNew:
		c.fresh = true
		r.fresh.Add(1)
	case c.fresh:
		c.fresh = false
		r.fresh.Add(-1)
	}
	switch state {
	case http.StateNew:
		r.callers.Add(1)
	case http.StateHijacked, http.StateClosed:
		r.callers.Add(-1)
	}
}

// serverLog takes net/http's own messages. Nearly all of them tell of what strangers do to a public port.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	level := slog.LevelDebug
	if strings.Contains(text, "panic serving") || strings.Contains(text, "Accept error") {
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, "net/http", "text", text)
	return len(p), nil
}

// listenHint says what to do about an address that cannot be had.
func listenHint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "; another program has this port (ss -ltnp shows which): stop it, or give 'listen' another one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "; this machine has no such address (ip address shows those that it has): correct 'listen'"
	case errors.Is(err, syscall.EACCES):
		return "; ports below 1024 are for root and the service (sallyport-relay service start): give 'listen' a higher one"
	}
	return ""
}

// listen opens the public listener, or goes on with the one that was kept.
func (r *Relay) listen(ctx context.Context) (*boundedListener, error) {
	l := r.deps.Kept
	if l != nil && !sameAddress(l.Addr(), r.config.listen()) {
		r.log.Info("the listener that was kept over the restart has another address than 'listen'; it is closed", "kept", l.Addr().String())
		_ = l.Close()
		l = nil
	}
	if l == nil {
		var err error
		if l, err = new(net.ListenConfig).Listen(ctx, "tcp", r.config.listen()); err != nil {
			return nil, fmt.Errorf("listen for callers and agents: %w%s", err, listenHint(err))
		}
	}
	if r.deps.Keep != nil {
		r.deps.Keep(l)
	}
	return &boundedListener{Listener: l, most: int64(orElse(r.config.Limits.Connections, 20000)), log: r.log}, nil
}

// sameAddress says whether a listener has the address that was configured, which may name a host or none.
func sameAddress(has net.Addr, configured string) bool {
	want, err := net.ResolveTCPAddr("tcp", configured)
	tcp, ok := has.(*net.TCPAddr)
	if err != nil || !ok || want.Port != tcp.Port {
		return false
	}
	return want.IP.Equal(tcp.IP) || (want.IP == nil || want.IP.IsUnspecified()) && tcp.IP.IsUnspecified()
}

// A boundedListener closes connections beyond a number at once. Leaving them in the kernel's queue would make those who
// come in good faith wait for those who do not.
type boundedListener struct {
	net.Listener
	most   int64
	open   atomic.Int64
	log    *slog.Logger
	warned time.Time // used by Accept alone
}

// count is how many connections are open.
func (l *boundedListener) count() int { return int(l.open.Load()) }

// Accept gives the next connection that is within the bound.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			return &boundedConn{Conn: tunnel.WrapConn(conn), l: l}, nil
		}
		l.open.Add(-1)
		_ = conn.Close()
		if now := time.Now(); now.Sub(l.warned) > time.Minute {
			l.warned = now
			l.log.Warn("too many connections; new ones are closed at once", "limit", l.most)
		}
	}
}

// A boundedConn gives its place back when it is closed.
type boundedConn struct {
	*tunnel.Conn
	l       *boundedListener
	once    sync.Once
	fresh   bool         // no request has come on it; of countCallers alone, which net/http calls for one state after the other
	writeBy atomic.Int64 // the deadline for writes that is set, Unix nanoseconds; 0: none is known
}

// SetWriteDeadline leaves a deadline alone that is not much nearer than t: each answer sets one anew, which costs more than
// the rest of a small write on our side.
func (c *boundedConn) SetWriteDeadline(t time.Time) error {
	if wants := time.Until(t); wants > 0 {
		if has := time.Until(time.Unix(0, c.writeBy.Load())); has <= wants && has >= wants-wants/8 {
			return nil
		}
		c.writeBy.Store(t.UnixNano())
	} else {
		c.writeBy.Store(0)
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both.
func (c *boundedConn) SetDeadline(t time.Time) error {
	c.writeBy.Store(0)
	return c.Conn.SetDeadline(t)
}

func (c *boundedConn) Close() error {
	c.once.Do(func() { c.l.open.Add(-1) })
	return c.Conn.Close()
}

// CloseWrite and SetLinger are needed on upgraded connections and to break answers off.
func (c *boundedConn) CloseWrite() error {
	if half, ok := c.Conn.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *boundedConn) SetLinger(sec int) error {
	if tcp, ok := c.Conn.Conn.(interface{ SetLinger(int) error }); ok {
		return tcp.SetLinger(sec)
	}
	return errors.ErrUnsupported
}
