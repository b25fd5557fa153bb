package connector

import (
	"context"
	"log/slog"
	"time"

	"sallyport/relay/store"
)

// Connector is what an admin publishes.
type Connector struct {
	ID             string        `json:"id"`
	Gateway        string        `json:"gateway"`
	Name           string        `json:"name"`
	API            string        `json:"api"`  // defaults to Name
	Auth           []string      `json:"auth"` // AuthKey, AuthNone
	KeyHeader      string        `json:"keyHeader,omitempty"`
	KeyQuery       string        `json:"keyQuery,omitempty"`
	Hosts          []string      `json:"hosts,omitempty"`
	CORSOrigins    []string      `json:"corsOrigins,omitempty"`
	BodyLimit      int64         `json:"bodyLimit,omitempty"`      // bytes; 0: the relay's default
	Timeout        time.Duration `json:"timeout,omitempty"`        // 0: the relay's default
	OutcomeUnknown string        `json:"outcomeUnknown,omitempty"` // "auto" (default: 409 for Power Platform), "409", "504"
	Created        time.Time     `json:"created"`
}

const (
	AuthKey  = "key"
	AuthNone = "none"
)

// Published is a connector as the request path sees it; immutable.
type Published struct {
	Connector
}

// Allows reports whether auth (AuthKey, AuthNone) is one of the connector's.
func (p *Published) Allows(auth string) bool { panic("soon") }

// CheckKey reports which key was presented, in constant time with regard to the secret.
func (p *Published) CheckKey(presented string) (name string, ok bool) { panic("soon") }

// Directory holds the published connectors.
type Directory struct{}

// NewDirectory loads the directory from the store. Run follows the store until ctx ends.
func NewDirectory(ctx context.Context, st *store.Store, log *slog.Logger) (*Directory, error) {
	panic("soon")
}
func (d *Directory) Run(ctx context.Context) error          { panic("soon") }
func (d *Directory) ByPath(gateway, name string) *Published { panic("soon") } // nil: none
func (d *Directory) ByHost(host string) *Published          { panic("soon") } // host without port; nil: none
