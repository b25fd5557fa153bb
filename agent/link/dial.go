package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"sallyport/agent/proxy"
	"sallyport/tunnel"
)

// Each phase of a dial has its own bound, so that the error names the phase; the whole has one as well. The tunnel's
// handshake brings its own 10 s.
const (
	dialTimeout    = 50 * time.Second
	tcpTimeout     = 10 * time.Second
	proxyTimeout   = 25 * time.Second
	tlsTimeout     = 10 * time.Second
	upgradeTimeout = 10 * time.Second
	keepAlive      = 45 * time.Second // for proxies; the tunnel's own pings find dead links

	// answerLimit bounds what is read before the other side has proved to be a relay.
	answerLimit = 64 << 10
)

// DialConfig says how to get to the relay.
type DialConfig struct {
	// Relay is the relay's URL: https, or http to this machine itself (a demo, a TLS proxy beside the agent).
	Relay string
	// Roots are the certificate authorities to trust; nil is the operating system's. See Roots.
	Roots *x509.CertPool
	// Proxy says through which proxy; nil for none. See ProxyFor.
	Proxy ProxyFunc
	// SignOn is how the agent proves itself to a proxy that asks for it; nil: by the user and password of the proxy's URL
	// alone.
	SignOn *SignOn
	// Version is the program's version, for the relay's log.
	Version string
	Log     *slog.Logger
}

// A Dialer opens one link at a time. Safe for concurrent use.
type Dialer struct {
	relay *url.URL
	roots *x509.CertPool
	proxy ProxyFunc
	agent string
	log   *slog.Logger

	signOn  *SignOn
	caution caution
	issuer  issuer
}

// NewDialer checks the configuration; it does not touch the network.
func NewDialer(c DialConfig) (*Dialer, error) {
	u, err := url.Parse(c.Relay)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("relay %q is not a URL such as https://relay.example.com", proxy.Hide(c.Relay))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return nil, fmt.Errorf("relay %q: a relay's URL has a scheme, a host and perhaps a port, and nothing else", proxy.Hide(c.Relay))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("relay %s: http is for a relay on this machine alone; use https", u)
	}
	u.Path = ""
	d := &Dialer{relay: u, roots: c.Roots, proxy: c.Proxy, agent: "sallyport-agent/" + c.Version, log: c.Log, signOn: c.SignOn}
	if c.Version == "" {
		d.agent = "sallyport-agent"
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// Roots are the operating system's certificate authorities and those of a PEM file's content.
func Roots(pem []byte) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's certificate authorities: %w", err)
	}
	if len(pem) > 0 && !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("there is no certificate in it; it has to be in PEM form (-----BEGIN CERTIFICATE-----)")
	}
	return pool, nil
}

// ErrUnreached is found in the error of an attempt that came to its end before anything was said to the relay.
var ErrUnreached = errors.New("the relay was not reached")

type unreached struct{ error }

func (u unreached) Unwrap() error        { return u.error }
func (u unreached) Is(target error) bool { return target == ErrUnreached }

// dial makes one attempt: network, proxy, TLS, upgrade, handshake. Names are looked up anew each time.
func (d *Dialer) dial(ctx context.Context, who tunnel.AgentIdentity, relayKey string) (*websocket.Conn, tunnel.Welcome, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, fmt.Errorf("it took longer than %s", dialTimeout))
	defer cancel()
	ws, err := d.open(ctx)
	if err != nil {
		return nil, tunnel.Welcome{}, unreached{fmt.Errorf("dial relay %s: %w", d.relay, err)}
	}
	welcome, err := tunnel.Introduce(ctx, ws, who, relayKey)
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() && ctx.Err() == nil {
		err = d.heldBack(err)
	}
	if err != nil {
		return nil, tunnel.Welcome{}, fmt.Errorf("dial relay %s: %w", d.relay, explainKey(err))
	}
	return ws, welcome, nil
}

func (d *Dialer) open(ctx context.Context) (*websocket.Conn, error) {
	conn, err := d.reach(ctx, d.relay)
	if err != nil {
		return nil, err
	}
	if d.relay.Scheme == "https" {
		if conn, err = d.secure(ctx, tunnel.WrapConn(conn), d.relay.Hostname()); err != nil {
			return nil, err
		}
		if t, ok := conn.(*tls.Conn); ok {
			d.witness(t.ConnectionState())
		}
	}
	return d.upgrade(ctx, conn)
}

// reach opens a TCP connection to the URL's host, through a proxy if there is one.
func (d *Dialer) reach(ctx context.Context, u *url.URL) (net.Conn, error) {
	target := hostPort(u)
	if d.proxy != nil {
		p, err := d.proxy(u)
		if err != nil {
			return nil, dialFailed("find out the proxy", "look at the system's proxy settings and HTTPS_PROXY, or set 'proxy' in agent.yaml", errors.New(proxy.Hide(err.Error())))
		}
		if p != nil {
			d.log.Debug("dialing through a proxy", "proxy", shown(p), "relay", u.String())
			return d.dialProxy(ctx, p, target)
		}
	}
	conn, err := d.tcp(ctx, target)
	if err != nil {
		return nil, dialFailed("connect", "allow this machine to reach the relay on that port, or set 'proxy' in agent.yaml", err)
	}
	return conn, nil
}

func (d *Dialer) tcp(ctx context.Context, address string) (net.Conn, error) {
	nd := net.Dialer{Timeout: tcpTimeout, KeepAlive: keepAlive}
	conn, err := nd.DialContext(ctx, "tcp", address)
	return conn, ended(ctx, err)
}

// upgrade makes a WebSocket of conn and closes it on error.
func (d *Dialer) upgrade(ctx context.Context, conn net.Conn) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, upgradeTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	bounded := &boundedConn{Conn: conn, left: answerLimit}
	handOver := func(context.Context, string, string) (net.Conn, error) { return bounded, nil }
	dialer := tunnel.NewDialer()
	dialer.NetDialContext, dialer.NetDialTLSContext = handOver, handOver
	target := *d.relay
	target.Scheme = strings.Replace(target.Scheme, "http", "ws", 1)
	target.Path = tunnel.Path
	ws, resp, err := dialer.DialContext(ctx, target.String(), http.Header{"User-Agent": {d.agent}})
	if err != nil {
		_ = conn.Close()
		return nil, notUpgraded(resp, ended(ctx, err))
	}
	if got := ws.Subprotocol(); got != tunnel.Subprotocol {
		_ = ws.Close()
		return nil, &DialError{
			Phase: "open the WebSocket",
			Mend:  "is this the relay's URL, and is the relay of a version that goes with this agent's?",
			Err:   fmt.Errorf("what answers there speaks %q, not %s", printable(got, 40), tunnel.Subprotocol),
		}
	}
	bounded.left = -1 // from here the tunnel's own limits hold
	return ws, nil
}

// A boundedConn reads so many bytes and no more; a negative number is no bound. The bound is lifted before the
// connection is handed to other goroutines.
type boundedConn struct {
	net.Conn
	left int
}

// NetConn is for the link, which looks for its tunnel.Conn.
func (c *boundedConn) NetConn() net.Conn { return c.Conn }

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left < 0 {
		return c.Conn.Read(p)
	}
	if c.left == 0 {
		return 0, fmt.Errorf("%w: the answer is larger than %d bytes", io.ErrShortBuffer, answerLimit)
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// ended prefers the context's reason to the closed connection that it led to.
func ended(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	} else {
		return cause
	}
}
