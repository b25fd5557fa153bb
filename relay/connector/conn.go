package connector

import (
	"context"
	"net"
	"net/http"

	"sallyport/tunnel"
)

type connKey struct{}

// WithConn is for http.Server.ConnContext: the records of a large body then go to the network and come from there together
// (tunnel.Conn).
func WithConn(ctx context.Context, c net.Conn) context.Context {
	if under := tunnel.ConnUnder(c); under != nil {
		return context.WithValue(ctx, connKey{}, under)
	}
	return ctx
}

// connOf is the connection of a caller, where TLS is on it and no other call: HTTP/2 has its own order of writing.
func connOf(r *http.Request) *tunnel.Conn {
	if r.TLS == nil || r.ProtoMajor != 1 {
		return nil
	}
	c, _ := r.Context().Value(connKey{}).(*tunnel.Conn)
	return c
}
