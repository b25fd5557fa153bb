// Package entra proves agents that sign on with a Microsoft Entra ID token: of one pinned tenant, for this relay, as an
// application and not as a person.
//
// It decides who somebody is, not what they may: relay/gateway maps identities to gateways. It knows nothing of callers'
// tokens, which are for connectors.
//
//	v, err := entra.New(entra.Config{Tenant: tid, Audience: []string{"api://sallyport", clientID}})
//	who, err := v.Verify(ctx, token)       // *Refused: the token is no good; otherwise Entra's keys cannot be had
//
// Both versions of tokens are read: https://learn.microsoft.com/entra/identity-platform/access-tokens.
package entra

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"sallyport/internal/issuer"
)

const (
	// DefaultAuthority is Entra's in the public cloud.
	DefaultAuthority = "https://login.microsoftonline.com"
	// tokenLimit bounds a token.
	tokenLimit = 16 << 10
)

// Config of a Verifier.
type Config struct {
	// Tenant is the GUID of the one tenant whose tokens count.
	Tenant string
	// Audience are the names of this relay as the tenant has registered it: its application ID URI (api://...), which
	// version 1 tokens are for, and its client GUID, which version 2 tokens are for.
	Audience []string
	// Authority is the cloud's. Default: DefaultAuthority.
	Authority string
}

// An Identity is an application as a token proves it.
type Identity struct {
	Tenant string `json:"tenant"`
	// App is the application's client GUID, Object that of its service principal or managed identity.
	App    string `json:"app"`
	Object string `json:"object"`
	// Roles are the app roles that it was granted.
	Roles []string `json:"roles,omitempty"`
	// Expires is when the token ends.
	Expires time.Time `json:"-"`
}

// Refused is the error of a token that is no good. Its text quotes only what the token says of itself and is safe to show.
type Refused struct{ Reason string }

func (e *Refused) Error() string { return "the token is refused: " + e.Reason }

func refused(format string, v ...any) error { return &Refused{fmt.Sprintf(format, v...)} }

// A Verifier verifies tokens. Safe for concurrent use.
type Verifier struct {
	c      Config
	v1, v2 string // issuers
	tenant *issuer.Issuer
}

var guid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// IsGUID reports whether s is a GUID in lower case, as tokens have them.
func IsGUID(s string) bool { return guid.MatchString(s) }

// New checks the configuration; it does not touch the network.
func New(c Config) (*Verifier, error) {
	if c.Authority == "" {
		c.Authority = DefaultAuthority
	}
	c.Authority = strings.TrimSuffix(c.Authority, "/")
	u, err := url.Parse(c.Authority)
	switch {
	case !IsGUID(c.Tenant):
		return nil, fmt.Errorf("tenant %.80q is no GUID in lower case, such as 72f988bf-86f1-41af-91ab-2d7cd011db47", c.Tenant)
	case len(c.Audience) == 0:
		return nil, errors.New("audience is missing: the relay's application ID URI (api://...), its client GUID, or both")
	case err != nil || u.Host == "" || u.Path != "" || u.Scheme != "https" && !issuer.Loopback(u):
		return nil, fmt.Errorf("authority %.80q is no URL such as %s", c.Authority, DefaultAuthority)
	}
	for _, a := range c.Audience {
		if !IsGUID(a) && !strings.Contains(a, "://") {
			return nil, fmt.Errorf("audience %.80q is neither an application ID URI (api://...) nor a GUID in lower case", a)
		}
	}
	v1, v2 := issuer.Entra(c.Authority, c.Tenant)
	return &Verifier{c: c, v1: v1, v2: v2, tenant: issuer.New(v2)}, nil
}

// claims are what matters of an access token, of either version.
type claims struct {
	Issuer  string   `json:"iss"`
	Version string   `json:"ver"`
	Tenant  string   `json:"tid"`
	Object  string   `json:"oid"`
	AppID   string   `json:"appid"` // version 1
	Azp     string   `json:"azp"`   // version 2
	Scope   *string  `json:"scp"`   // only where a person stands behind the token
	Type    string   `json:"idtyp"`
	Roles   []string `json:"roles"`
}

// Verify says who a token proves. The error is a *Refused if the token is at fault.
func (v *Verifier) Verify(ctx context.Context, raw string) (Identity, error) {
	if len(raw) > tokenLimit {
		return Identity{}, refused("it has %d bytes; at most %d are read", len(raw), tokenLimit)
	}
	version, by, err := v.version(raw)
	if err != nil {
		return Identity{}, err
	}
	token, err := v.tenant.Verify(ctx, raw, by, []string{oidc.RS256}) // the audience is checked below
	if _, outage := errors.AsType[*issuer.Unavailable](err); outage {
		return Identity{}, err
	} else if err != nil {
		return Identity{}, refused("%v", err)
	}
	var c claims
	if err := token.Claims(&c); err != nil {
		return Identity{}, refused("its claims have an unexpected form")
	}
	id, err := v.identity(version, token.Audience, c)
	id.Expires = token.Expiry
	return id, err
}

// version tells the two versions apart by the issuer, which decides the rules and is verified afterwards.
func (v *Verifier) version(raw string) (version, by string, err error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return "", "", refused("it is no signed token")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var c claims
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return "", "", refused("it is no signed token")
	}
	switch c.Issuer {
	case v.v1:
		return "1.0", v.v1, nil
	case v.v2:
		return "2.0", v.v2, nil
	}
	return "", "", refused("it was issued by %.120q, not by the pinned tenant", c.Issuer)
}

// identity applies the rules to claims whose signature and time hold.
func (v *Verifier) identity(version string, audience []string, c claims) (Identity, error) {
	app := c.Azp
	if version == "1.0" {
		app = c.AppID
	}
	isURI := version == "1.0" // version 1 is for the application ID URI, version 2 for the client GUID
	forUs := func(a string) bool { return IsGUID(a) != isURI && slices.Contains(v.c.Audience, a) }
	switch {
	case c.Version != version:
		return Identity{}, refused("its version %.20q does not go with its issuer", c.Version)
	case c.Tenant != v.c.Tenant:
		return Identity{}, refused("it is of the tenant %.80q", c.Tenant)
	case len(audience) != 1 || !forUs(audience[0]):
		return Identity{}, refused("it is for %.200q, not for this relay", audience)
	case c.Scope != nil || c.Type != "" && c.Type != "app":
		return Identity{}, refused("a person stands behind it (scp, idtyp); agents sign on as applications")
	case !IsGUID(app):
		return Identity{}, refused("it does not name the application that it was issued to (azp, appid)")
	case !IsGUID(c.Object):
		return Identity{}, refused("it does not name the application's object (oid)")
	}
	return Identity{Tenant: c.Tenant, App: app, Object: c.Object, Roles: c.Roles}, nil
}
