// Package oidc is an OpenID Connect issuer for tests: keys, configuration, tokens right and wrong. It has the shapes of
// Microsoft Entra ID where a tenant is named. It knows nothing of what a token is for, and is no part of the product.
//
//	i := oidc.Start(t, oidc.Options{})            // on loopback; Options.Tenant gives it Entra's shapes
//	raw := i.Token(oidc.Claims{"aud": "api", "sub": "jane"})
//	i.Rotate(oidc.NewKey(t, oidc.ES256, "k2"))    // from now on its only key
//	i.Down.Store(true)                            // an outage
package oidc

import (
	"crypto/tls"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Claims are what a token says.
type Claims map[string]any

// With is a copy with other claims; a nil one is taken out. Names and values alternate.
func (c Claims) With(changes ...any) Claims {
	out := maps.Clone(c)
	for i := 0; i < len(changes); i += 2 {
		if name := changes[i].(string); changes[i+1] == nil {
			delete(out, name)
		} else {
			out[name] = changes[i+1]
		}
	}
	return out
}

// Options of an Issuer.
type Options struct {
	// Tenant gives it the shapes of Microsoft Entra ID.
	Tenant string
	// TLS has it speak TLS, under the name Host in place of its address.
	TLS  *tls.Config
	Host string
	// Key is its first one; nil: an RS256 key "k1".
	Key *Key
	// Token and Device answer at the endpoints of the same names.
	Token, Device http.HandlerFunc
}

// An Issuer runs until its test ends.
type Issuer struct {
	// Base is its address, URL the name that its tokens have: the same, unless it has Entra's shapes.
	Base, URL string
	// Down has it answer 503; Fetches counts how often it was asked for its configuration or keys.
	Down    atomic.Bool
	Fetches atomic.Int32

	o    Options
	mu   sync.Mutex // guards keys
	keys []*Key
}

// Start starts an issuer.
func Start(tb testing.TB, o Options) *Issuer {
	tb.Helper()
	if o.Key == nil {
		o.Key = NewKey(tb, RS256, "k1")
	}
	i := &Issuer{o: o, keys: []*Key{o.Key}}
	srv := httptest.NewUnstartedServer(i)
	if o.TLS != nil {
		srv.TLS = o.TLS
		srv.StartTLS()
	} else {
		srv.Start()
	}
	tb.Cleanup(srv.Close)
	i.Base = srv.URL
	if o.Host != "" {
		i.Base = strings.Replace(i.Base, "127.0.0.1", o.Host, 1)
	}
	i.URL = i.Base
	if o.Tenant != "" {
		i.URL += "/" + o.Tenant + "/v2.0"
	}
	return i
}

// Key is the one that it signs with.
func (i *Issuer) Key() *Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[0]
}

// Rotate gives it other keys; it signs with the first.
func (i *Issuer) Rotate(keys ...*Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

// Usual completes claims with issuer and times, where they say nothing of them.
func (i *Issuer) Usual(c Claims) Claims {
	now := time.Now()
	out := Claims{"iss": i.URL, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	maps.Copy(out, c)
	return out
}

// Token is one of the issuer's, with its key and the usual claims.
func (i *Issuer) Token(c Claims) string { return i.Key().Sign(i.Usual(c)) }

// ServeHTTP answers what the paths of an issuer are asked for.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if i.Down.Load() {
		i.Fetches.Add(1)
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	at := i.endpoints()
	w.Header().Set("Content-Type", "application/json")
	switch address := i.Base + q.URL.Path; {
	case address == i.URL+"/.well-known/openid-configuration":
		i.Fetches.Add(1)
		_ = json.NewEncoder(w).Encode(at)
	case address == at["jwks_uri"]:
		i.Fetches.Add(1)
		i.mu.Lock()
		defer i.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": i.keys})
	case address == at["token_endpoint"] && i.o.Token != nil:
		i.o.Token(w, q)
	case address == at["device_authorization_endpoint"] && i.o.Device != nil:
		i.o.Device(w, q)
	default:
		http.NotFound(w, q)
	}
}

func (i *Issuer) endpoints() map[string]string {
	base, keys := i.Base, "/keys"
	if i.o.Tenant != "" {
		base, keys = i.Base+"/"+i.o.Tenant, "/discovery/v2.0/keys"
	}
	at := map[string]string{"issuer": i.URL, "jwks_uri": base + keys}
	for name, path := range map[string]string{"authorization_endpoint": "/authorize", "token_endpoint": "/token", "device_authorization_endpoint": "/device"} {
		if i.o.Tenant != "" {
			path = "/oauth2/v2.0" + strings.Replace(path, "/device", "/devicecode", 1)
		}
		at[name] = base + path
	}
	return at
}
