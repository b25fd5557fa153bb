// Package admin is the relay's admin API: HTTP and JSON on a local socket.
package admin

import (
	"context"
	"log/slog"
	"net"

	"sallyport/relay/connector"
	"sallyport/relay/gateway"
	"sallyport/relay/store"
)

type Config struct {
	Gateways   *gateway.Registry
	Connectors *connector.Directory
	Store      *store.Store
	URL        string // the relay's public URL without trailing slash
	Version    string
	Log        *slog.Logger
}

type Admin struct{}

func New(c Config) *Admin { panic("soon") }

// Serve answers on l until ctx ends; it closes l.
func (a *Admin) Serve(ctx context.Context, l net.Listener) error { panic("soon") }

// Listen makes the socket with mode 0600 and removes a stale one.
func Listen(ctx context.Context, path string) (net.Listener, error) { panic("soon") }
