// Package gateway knows which gateways exist, which agents belong to them and which links are live, and picks one.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"sallyport/relay/store"
)

var (
	ErrUnknownGateway = errors.New("unknown gateway")
	ErrNoLink         = errors.New("no agent of this gateway is connected")
	ErrNotOffered     = errors.New("no connected agent of this gateway offers the API")
)

type Config struct {
	URL  string // the relay's public URL, as agents dial it
	Dir  string // the data folder: the signing key is kept here
	Node string // name of this relay node; default: the host name
	Log  *slog.Logger
	Peer func(*http.Request) string // remote address behind trusted proxies; default: the connection's
}

type Registry struct{}

// New loads the registry; the relay calls Run for as long as it lives, after New.
func New(ctx context.Context, st *store.Store, c Config) (*Registry, error) { panic("soon") }

// Run follows the store until ctx ends.
func (r *Registry) Run(ctx context.Context) error { panic("soon") }

// ServeLink answers /_/link and blocks until the link has ended.
func (r *Registry) ServeLink(w http.ResponseWriter, q *http.Request) { panic("soon") }

// Pick returns the usable link that offers the API and has the fewest streams.
func (r *Registry) Pick(gateway, api string, exclude ...*Link) (*Link, error) { panic("soon") }

// Drain sends GoAway on all links and waits until they have ended, or ctx.
func (r *Registry) Drain(ctx context.Context) error { panic("soon") }

// Link embeds *tunnel.Link: link.Open(req, end) is the way to a stream.
type Link struct {
	// *tunnel.Link
	Gateway, Agent string
	Since          time.Time
}
