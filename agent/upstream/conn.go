package upstream

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	readBuffer  = 8 << 10
	writeBuffer = 4 << 10
)

// A conn is one connection to the upstream. It is used by one exchange at a time and carries one pool key for its whole
// life. Its buffers are not recycled when it ends: a late reader of a dead exchange must never see another's bytes.
type conn struct {
	nc  net.Conn // what is read and written: raw, or TLS over it
	raw net.Conn
	tls *tls.ConnectionState // nil over plain HTTP

	head headReader
	bw   writeState

	key   poolKey
	ends  time.Time     // when it must carry no more: by age, or with the ticket that signed it on
	since time.Time     // in the pool since; zero for a connection that has served nothing yet
	keeps time.Duration // how long the upstream has said that it keeps the connection idle, less a margin; 0: it has not

	protocol string // with which it was signed on, for the record of later requests

	signed bool // the upstream has signed this connection on: requests need no token
	served int  // requests since it was signed on
	broken bool // must not be used again: its framing is doubtful or its buffer has grown
}

// writeState counts what has left, so that a retry knows whether the upstream can have seen anything.
type writeState struct {
	*bufio.Writer
	nc      net.Conn
	wrote   atomic.Int64
	silence time.Duration // how long one write may take
	by      time.Time     // the deadline that is set
}

// wire is the writeState's way to the network.
type wire struct{ w *writeState }

func (x wire) Write(p []byte) (int, error) {
	if err := x.w.extend(time.Now()); err != nil {
		return 0, err
	}
	n, err := x.w.nc.Write(p)
	x.w.wrote.Add(int64(n))
	return n, err
}

// extend gives the next write its time. A deadline that is nearly new is left alone: to set one costs as much as the rest of a
// small write on our side.
func (w *writeState) extend(now time.Time) error {
	if left := w.by.Sub(now); left <= w.silence && left >= w.silence-w.silence/8 {
		return nil
	}
	w.by = now.Add(w.silence)
	return w.nc.SetWriteDeadline(w.by)
}

func newConn(nc, raw net.Conn, key poolKey) *conn {
	now := time.Now()
	c := &conn{nc: nc, raw: raw, key: key, ends: now.Add(maxConnAge)}
	c.head = headReader{src: nc, br: bufio.NewReaderSize(nc, readBuffer)}
	c.bw.nc = nc
	c.bw.silence = defaultTimeout
	c.bw.Writer = bufio.NewWriterSize(wire{&c.bw}, writeBuffer)
	return c
}

// readUntil is when reads of the connection fail. Errors of a closed connection show up at the next read.
func (c *conn) readUntil(t time.Time) { _ = c.nc.SetReadDeadline(t) }

// abort ends the connection at once: no TLS goodbye, which could wait for an upstream that does not read.
func (c *conn) abort() { _ = c.raw.Close() }

// bye ends an idle connection politely.
func (c *conn) bye() { _ = c.nc.Close() }

func (c *conn) expired(now time.Time) bool {
	idle := now.Sub(c.since)
	return now.After(c.ends) || idle > maxConnIdle || c.keeps > 0 && idle > c.keeps
}

// keepMargin is how long before an upstream ends an idle connection it is used no more: a request that crosses the end is
// lost, and whether it was run nobody can tell.
const keepMargin = time.Second

// keepsIdle reads how long an upstream keeps the connection idle from the field Keep-Alive ("timeout=5, max=100"), as Node
// and Apache send it; 0 if it does not say.
func keepsIdle(h http.Header) time.Duration {
	for _, line := range h["Keep-Alive"] {
		for part := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(textproto.TrimString(part), "=")
			if !strings.EqualFold(textproto.TrimString(name), "timeout") {
				continue
			}
			seconds, err := strconv.ParseUint(textproto.TrimString(value), 10, 16)
			if err != nil {
				return 0
			}
			d := time.Duration(seconds) * time.Second
			return max(d-min(keepMargin, d/2), 1)
		}
	}
	return 0
}

// alive says whether an idle connection may carry another request: it is open, and the upstream has sent nothing that
// nobody asked for. Unsolicited bytes are the answer to somebody else's request, or an attempt at being one.
func (c *conn) alive() bool {
	if c.head.br.Buffered() > 0 {
		return false
	}
	if sc, ok := c.raw.(syscall.Conn); ok && readable(sc) {
		return false
	}
	if c.tls == nil {
		return true
	}
	// TLS may hold decrypted bytes of its own. A deadline in the past reads those without touching the network; the
	// error is a temporary one to crypto/tls, so the connection stays sound.
	c.readUntil(time.Unix(1, 0))
	_, err := c.head.br.Peek(1)
	c.readUntil(time.Time{})
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// dial opens a connection for key: TCP, then TLS for https.
func (t *Transport) dial(ctx context.Context, key poolKey) (*conn, error) {
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	raw, err := t.cfg.Dial(dctx, "tcp", t.address)
	cancel()
	if err != nil {
		return nil, &Error{Kind: Unreachable, NotRun: true, Err: fmt.Errorf("dial %s: %w", t.address, err)}
	}
	if t.cfg.URL.Scheme == "http" {
		return newConn(raw, raw, key), nil
	}
	tc := tls.Client(raw, t.tls)
	hctx, stop := context.WithTimeout(ctx, handshakeTimeout)
	defer stop()
	if err := tc.HandshakeContext(hctx); err != nil {
		_ = raw.Close()
		return nil, &Error{Kind: TLSFailed, NotRun: true, Err: fmt.Errorf("TLS with %s: %w", t.address, err)}
	}
	c := newConn(tc, raw, key)
	state := tc.ConnectionState()
	c.tls = &state
	return c, nil
}

// config is the tls.Config for one API.
func (t TLS) config(host string) *tls.Config {
	name := t.ServerName
	if name == "" {
		name = host
	}
	c := &tls.Config{
		RootCAs:            t.Roots,
		ServerName:         name,
		Certificates:       t.Certificates,
		MinVersion:         t.MinVersion,
		NextProtos:         []string{"http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
	if t.RenegotiateOnce {
		c.Renegotiation = tls.RenegotiateOnceAsClient
	}
	if t.Pin != "" {
		// The pinned key takes the place of chain and name, in VerifyConnection, which also runs for resumed sessions.
		c.InsecureSkipVerify = true
		c.VerifyConnection = t.verifyPin
	}
	return c
}

func (t TLS) verifyPin(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the upstream shows no certificate")
	}
	if got := Pin(cs.PeerCertificates[0]); got != t.Pin {
		return fmt.Errorf("the upstream's key is %s, not the pinned one", got)
	}
	return nil
}

// Pin is the value for TLS.Pin that admits exactly this certificate's key.
func Pin(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

// dialAddress is host:port of a URL, with the scheme's port where none is named.
func dialAddress(scheme, host, port string) string {
	if port == "" {
		port = defaultPort(scheme)
	}
	return net.JoinHostPort(host, port)
}

func defaultPort(scheme string) string {
	if strings.EqualFold(scheme, "https") {
		return "443"
	}
	return "80"
}
