package link

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// httpTimeout bounds one request of HTTPClient's, its answer included.
	httpTimeout = 30 * time.Second
	// httpIdle and httpConns bound the connections that wait for another one.
	httpIdle  = 30 * time.Second
	httpConns = 2
)

// HTTPClient makes requests the way links are dialed: through the same proxy, with the same certificate authorities. Plain
// http goes to this machine and its link-local network alone, without a proxy: that is where managed identities answer.
func (d *Dialer) HTTPClient() *http.Client {
	return &http.Client{Timeout: httpTimeout, Transport: &http.Transport{
		DialContext: d.dialLocal, DialTLSContext: d.dialSecure,
		IdleConnTimeout: httpIdle, MaxIdleConnsPerHost: httpConns, ResponseHeaderTimeout: httpTimeout,
		MaxResponseHeaderBytes: answerLimit,
	}}
}

func (d *Dialer) dialSecure(ctx context.Context, _, address string) (net.Conn, error) {
	target := &url.URL{Scheme: "https", Host: address}
	conn, err := d.reach(ctx, target)
	if err != nil {
		return nil, err
	}
	return d.secure(ctx, conn, target.Hostname())
}

func (d *Dialer) dialLocal(ctx context.Context, _, address string) (net.Conn, error) {
	conn, err := d.tcp(ctx, address)
	if err != nil {
		return nil, err
	}
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || !a.IP.IsLoopback() && !a.IP.IsLinkLocalUnicast() {
		_ = conn.Close()
		return nil, errors.New("plain http is for this machine and its link-local network alone; " + address + " is neither")
	}
	return conn, nil
}
