package admin

import (
	"net/netip"
	"time"

	"sallyport/internal/syslog"
	"sallyport/relay/connector"
	"sallyport/relay/definition"
	"sallyport/relay/gateway"
	"sallyport/relay/store"
)

// AddGateway is the body of POST /v1/gateways.
type AddGateway struct {
	Name string `json:"name"`
	NewJoin
}

// NewJoin is the body of POST /v1/gateways/{name}/join.
type NewJoin struct {
	// Expires is how long the join code can be used, in nanoseconds; 0: an hour.
	Expires time.Duration `json:"expires,omitempty"`
	// Uses is how many agents can join with it; 0: one. More than one need Approve.
	Uses int `json:"uses,omitempty"`
	// Approve has each agent wait until an admin has approved it.
	Approve bool `json:"approve,omitempty"`
}

// Join answers both. JoinString (join) is a secret until it is used, and cannot be had again.
type Join struct {
	Gateway    string    `json:"gateway"`
	JoinString string    `json:"join"`
	Expires    time.Time `json:"expires"`
	// Code is the code's ID, for POST /v1/codes/{id}/approve. It is no secret.
	Code    string `json:"code"`
	Uses    int    `json:"uses"`
	Approve bool   `json:"approve"`
}

// Approved answers POST /v1/codes/{id}/approve: the agents that can link now.
type Approved struct {
	Agents []string `json:"agents"`
}

// AddKey is the body of POST /v1/connectors/{gateway}/{name}/keys.
type AddKey struct {
	Name string `json:"name"`
	// Expires is how long the key works, in nanoseconds; 0: until it is revoked.
	Expires time.Duration `json:"expires,omitempty"`
	// From are networks such as 10.0.0.0/8 from which alone the key works; Rate is "100/m".
	From       []netip.Prefix `json:"from,omitempty"`
	Rate       connector.Rate `json:"rate,omitzero"`
	Concurrent int            `json:"concurrent,omitempty"`
}

// RotateKey is the body of POST /v1/connectors/{gateway}/{name}/keys/{id}/rotate.
type RotateKey struct {
	// Overlap is how long the old key goes on working, in nanoseconds; 0: it ends at once.
	Overlap time.Duration `json:"overlap"`
}

// SetUser is the body of PUT /v1/connectors/{gateway}/{name}/users/{user}.
type SetUser struct {
	Password string `json:"password"`
}

// NewKey answers it. Key cannot be had again.
type NewKey struct {
	connector.KeyInfo
	Key string `json:"key"`
}

// Published is a connector with what an admin wants to know of it.
type Published struct {
	connector.Connector
	URL      string   `json:"url"`
	HostURLs []string `json:"hostUrls,omitempty"`
	// Unavailable says why a call would not get through at this moment; empty: it would.
	Unavailable string `json:"unavailable,omitempty"`
	// Definition is what is known of the API's description; absent if there is none.
	Definition *store.DefinitionInfo `json:"definition,omitempty"`
	// Exported is the one that makers had last; absent if nothing was exported yet.
	Exported *store.DefinitionInfo `json:"exported,omitempty"`
}

// Changed says that the API is described otherwise than makers know it.
func (p *Published) Changed() bool {
	return p.Definition != nil && p.Exported != nil && p.Definition.Digest != p.Exported.Digest
}

// Changes answers GET /v1/connectors/{gateway}/{name}/changes: what is different for makers since they had the definition
// last, breaking changes first.
type Changes struct {
	// Known is false if nothing was exported yet; then there is nothing to compare with.
	Known    bool                `json:"known"`
	Breaking int                 `json:"breaking"`
	Changes  []definition.Change `json:"changes"`
}

// Exported is the body of POST /v1/connectors/{gateway}/{name}/exported: makers have the definition of this digest now.
type Exported struct {
	Digest string `json:"digest"`
}

// Definition answers GET /v1/connectors/{gateway}/{name}/definition.
type Definition struct {
	Gateway string `json:"gateway"`
	API     string `json:"api"`
	Digest  string `json:"digest"`
	// Body is the document, in any form that definition.Parse reads.
	Body []byte `json:"body"`
}

// What became of a connector.
const (
	ActionPublished = "published"
	ActionChanged   = "changed"
	ActionUnchanged = "unchanged" // it had these settings already
)

// Outcome answers POST and PUT of a connector.
type Outcome struct {
	Published
	Action string `json:"action"`
	// DryRun says that it only would have been done (?dryRun=true).
	DryRun bool `json:"dryRun"`
	// Changes are the settings that have another value now.
	Changes []connector.Difference `json:"changes"`
}

// Status answers GET /v1/status.
type Status struct {
	Version string `json:"version"`
	URL     string `json:"url"`
	// SigningKey is the fingerprint that agents have pinned.
	SigningKey string           `json:"signingKey"`
	Started    time.Time        `json:"started"`
	Gateways   []gateway.Status `json:"gateways"`
	Connectors int              `json:"connectors"`
	// Open are the connectors that anybody may call who knows the URL.
	Open []string `json:"open,omitempty"`
	// StoreBroken is for how long the store could not be followed, in nanoseconds.
	StoreBroken time.Duration `json:"storeBrokenNs"`
	// StoreTrouble says why the store takes no changes; empty: it does.
	StoreTrouble string `json:"storeTrouble,omitempty"`
	// LogLevel is the level of the relay's own log, if that is known.
	LogLevel *LevelInForce `json:"logLevel,omitempty"`
	// LogDropped is how many events of the access log were lost since the start.
	LogDropped uint64 `json:"logDropped"`
	// Syslog is how the forwarding to a collector goes, if there is one.
	Syslog *syslog.Status `json:"syslog,omitempty"`
}

// Login answers GET /v1/login, over HTTPS and to everybody: where to get a token.
type Login struct {
	Issuer string   `json:"issuer"`
	Client string   `json:"client"`
	Scopes []string `json:"scopes"`
}

// Whoami answers GET /v1/whoami.
type Whoami struct {
	Actor string `json:"actor"`
	Role  Role   `json:"role"`
	// Gateways are those of a publisher.
	Gateways []string `json:"gateways"`
}

// List wraps every list, so that members can be added.
type List[T any] struct {
	Items []T `json:"items"`
}

// Problem is the body of every error (RFC 9457). It is an error.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func (p *Problem) Error() string { return p.Detail }
