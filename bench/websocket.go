//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/hashicorp/yamux"
)

// What the two baselines have in common: a relay that agents reach by a WebSocket, and a reverse proxy at both of its ends.
// They know no policy, no keys and no logs.

const linkPath = "/_link"

// A wsConn makes a stream of bytes of a WebSocket's binary messages.
type wsConn struct {
	*websocket.Conn
	message io.Reader
}

func (c *wsConn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			_, r, err := c.NextReader()
			if err != nil {
				return 0, err
			}
			c.message = r
		}
		n, err := c.message.Read(p)
		if errors.Is(err, io.EOF) {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *wsConn) Write(p []byte) (int, error) {
	return len(p), c.WriteMessage(websocket.BinaryMessage, p)
}

func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// relay takes callers and, on linkPath, one agent; over makes of its link what calls the agent.
func (p *player) relay(over func(net.Conn) (http.RoundTripper, error)) (ready, error) {
	var proxy atomic.Pointer[http.Handler]
	upgrader := websocket.Upgrader{ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == linkPath {
			ws, err := upgrader.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			if transport, err := over(&wsConn{Conn: ws}); err == nil {
				h, _ := reverseProxy("http://agent", transport)
				proxy.Store(&h)
			}
			return
		}
		if h := proxy.Load(); h != nil {
			(*h).ServeHTTP(w, r)
			return
		}
		http.Error(w, "no agent", http.StatusServiceUnavailable)
	})
	address, err := p.serve(p.Secure, &http.Server{Handler: handler})
	return ready{Address: address}, err
}

// agent connects to the relay; answer makes of the link what callers come out of.
func (p *player) agent(ctx context.Context, answer func(net.Conn) (net.Listener, *http.Server, error)) error {
	config, err := p.Files.dialing()
	if err != nil {
		return err
	}
	dialer := websocket.Dialer{TLSClientConfig: config, ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10}
	ws, _, err := dialer.DialContext(ctx, "ws"+p.Relay[len("http"):]+linkPath, nil)
	if err != nil {
		return fmt.Errorf("connect to the relay: %w", err)
	}
	l, server, err := answer(&wsConn{Conn: ws})
	if err != nil {
		return err
	}
	if server.Handler, err = p.next(); err != nil {
		return err
	}
	p.servers = append(p.servers, server)
	p.running.Go(func() { _ = server.Serve(l) })
	return nil
}

// --- HTTP/2 over the link: one stream for each call -------------------------------------------------------------------

// h2Settings let a stream and the whole link have more under way than by default, and so many streams that the relay never
// looks for a second link.
func h2Settings() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          4096,
		MaxReceiveBufferPerStream:     4 << 20,
		MaxReceiveBufferPerConnection: 64 << 20,
		MaxReadFrameSize:              64 << 10,
	}
}

func unencryptedHTTP2() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

func h2Link(conn net.Conn) (http.RoundTripper, error) {
	once := make(chan net.Conn, 1)
	once <- conn
	return &http.Transport{
		Protocols: unencryptedHTTP2(), HTTP2: h2Settings(), DisableCompression: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, errors.New("the link is in use already")
			}
		},
	}, nil
}

func answerH2(conn net.Conn) (net.Listener, *http.Server, error) {
	l := &oneListener{conns: make(chan net.Conn, 1), addr: conn.LocalAddr()}
	l.conns <- conn
	return l, &http.Server{Protocols: unencryptedHTTP2(), HTTP2: h2Settings()}, nil
}

// A oneListener accepts one connection, which is there already.
type oneListener struct {
	conns chan net.Conn
	addr  net.Addr
	once  sync.Once // http.Server closes its listeners more than once
}

func (l *oneListener) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l *oneListener) Close() error {
	l.once.Do(func() { close(l.conns) })
	return nil
}

func (l *oneListener) Addr() net.Addr { return l.addr }

// --- yamux over the link: HTTP/1.1 on kept-alive streams ----------------------------------------------------------------

func yamuxSettings() *yamux.Config {
	c := yamux.DefaultConfig()
	c.AcceptBacklog = 4096
	c.MaxStreamWindowSize = 4 << 20
	c.LogOutput = io.Discard
	return c
}

func yamuxLink(conn net.Conn) (http.RoundTripper, error) {
	session, err := yamux.Client(conn, yamuxSettings())
	if err != nil {
		return nil, err
	}
	return &http.Transport{
		MaxIdleConnsPerHost: idleConnections, DisableCompression: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return session.Open() },
	}, nil
}

func answerYamux(conn net.Conn) (net.Listener, *http.Server, error) {
	session, err := yamux.Server(conn, yamuxSettings())
	return session, &http.Server{}, err
}
