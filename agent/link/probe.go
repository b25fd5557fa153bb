package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"

	"sallyport/agent/proxy"
	"sallyport/tunnel"
)

// A Way is how the relay is reached, for who examines it step by step: the steps are those of a link, and their errors
// are the same.
type Way struct{ d *Dialer }

// Way gives the steps of the dialer's own way.
func (d *Dialer) Way() Way { return Way{d} }

// Relay is the relay's URL.
func (w Way) Relay() *url.URL {
	u := *w.d.relay
	return &u
}

// Proxy says through which proxy the relay is reached, without its user and password; nil for none.
func (w Way) Proxy() (*url.URL, error) {
	if w.d.proxy == nil {
		return nil, nil
	}
	p, err := w.d.proxy(w.Relay())
	if err != nil {
		return nil, &DialError{Phase: "find out the proxy", Err: errors.New(proxy.Hide(err.Error())), Mend: mendProxy}
	}
	if p == nil {
		return nil, nil
	}
	return &url.URL{Scheme: p.Scheme, Host: hostPort(p)}, nil
}

// Connect opens a connection to the relay, through the proxy if there is one.
func (w Way) Connect(ctx context.Context) (net.Conn, error) { return w.d.reach(ctx, w.d.relay) }

// Secure speaks TLS on a connection to the relay and closes it on error. The error wraps a
// *tls.CertificateVerificationError where the certificate is not believed.
func (w Way) Secure(ctx context.Context, conn net.Conn) (*tls.Conn, error) {
	conn, err := w.d.secure(ctx, conn, w.d.relay.Hostname())
	if err != nil {
		return nil, err
	}
	t, ok := conn.(*tls.Conn)
	if !ok {
		return nil, fmt.Errorf("TLS with %s: the connection is a %T", w.d.relay.Host, conn)
	}
	return t, nil
}

// Upgrade opens a WebSocket to the relay and closes it again, with a reason for the relay's log: nothing is told of who the
// agent is.
func (w Way) Upgrade(ctx context.Context) error {
	ws, err := w.d.open(ctx)
	if err != nil {
		return err
	}
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "sallyport-agent check saw that links can be opened")
	_ = ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(byeTimeout)) // the relay may be gone; it was there
	return ws.Close()
}

// byeTimeout bounds saying goodbye.
const byeTimeout = time.Second

const mendProxy = "look at the system's proxy settings and HTTPS_PROXY, or set 'proxy' in agent.yaml"

// Public reports whether the operating system's authorities vouch for a chain, whatever else the agent trusts.
func Public(t tls.ConnectionState) bool { return len(t.PeerCertificates) > 0 && publicly(t) }

// Instead says what answered in the place of a relay that was asked for a plain page.
func Instead(resp *http.Response) error {
	e := &DialError{Phase: "ask the relay", Err: fmt.Errorf("answered %s", status(resp)), Mend: mendStatus(resp)}
	title, html := page(resp)
	if html {
		e.Err = fmt.Errorf("answered %s with the web page %q", status(resp), title)
	} else if resp.StatusCode/100 == 2 {
		e.Err = fmt.Errorf("answered %s with something that no relay says", status(resp))
		e.Mend = "is this the relay's URL, or does something on the way answer in its place?"
	}
	return e
}

// HealthPath is where a relay says that it is there.
const HealthPath = "/_/healthz"

// LinkPath is where a relay takes links.
const LinkPath = tunnel.Path
