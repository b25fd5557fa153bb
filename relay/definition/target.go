package definition

import (
	"fmt"
	"net/url"
	"strings"
)

// The ways in which callers prove to the relay who they are.
const (
	AuthNone   = "none"
	AuthKey    = "key"    // in a header or a query parameter
	AuthBasic  = "basic"  // a name and a password; the caller's own Windows account, too
	AuthOAuth2 = "oauth2" // a bearer token
)

// Auth is one way to call a connector.
type Auth struct {
	Kind string
	// Header or Query carries a key: one of the two. Header is X-API-Key if both are empty.
	Header, Query string
	// OAuth2 says where the token comes from.
	OAuth2 *OAuth2
	// Windows says that the name and password of AuthBasic are those of a Windows account.
	Windows bool
	// Key, of another kind's Auth, is a key that is demanded along with it; nil: none is.
	Key *Auth
}

func (a Auth) keyHeader() string { return orText(a.Header, "X-API-Key") }

// parts are the credentials of one way: what Power Platform has a type of connection for comes first.
func (a Auth) parts() []Auth {
	if a.Key == nil {
		return []Auth{a}
	}
	key := *a.Key
	a.Key = nil
	return []Auth{a, key}
}

// OAuth2 is an authorization server as Power Platform has to know it.
type OAuth2 struct {
	// Tenant, set for Microsoft Entra ID, is the tenant's ID or name; Resource is the name of the API there: its application
	// ID URI (api://...) or client GUID. Login is the cloud's sign-on address; empty: the public cloud's.
	Tenant, Resource, Login string
	// Restricted says that the connector admits the applications alone that it names: the new client has to be added.
	Restricted bool
	// AppsOnly says that it admits applications by themselves alone, and so no connection of Power Platform, which is a person's.
	AppsOnly bool
	// For any other server: its authorization and token endpoints. RefreshURL is TokenURL if it is empty.
	AuthorizationURL, TokenURL, RefreshURL string
	ClientID                               string
	Scopes                                 []string
}

// Entra reports whether the server is Microsoft's.
func (o *OAuth2) Entra() bool { return o.Tenant != "" }

// A Target says how the API is published.
type Target struct {
	// URL is the connector's public address: https://relay.example.com/plant1/orders.
	URL string
	// Gateway and Name are the connector's.
	Gateway, Name string
	// Auth are the ways to call it; any of them suffices. Empty: none.
	Auth []Auth
	// HostParameter makes the relay's address a parameter of the connection.
	HostParameter bool
	// Ping is the path of the relay's own operation that tests a connection, below URL; empty: there is none.
	Ping string
	// Deferred says that the relay answers 202 in place of calls that take long, and Hooks that it signs the addresses of
	// webhook subscriptions: the operations at which the platform follows these up are declared then.
	Deferred, Hooks bool
	// KeepIDs leaves operation IDs as they are if Power Platform takes them at all: flows refer to them.
	KeepIDs bool
	// Color is the icon's, #rrggbb.
	Color string
}

// PingPath is where a relay answers that a connection's credential is right.
const PingPath = "/_/ping"

const defaultColor = "#1f5f8b"

// address parts the URL.
func (t Target) address() (scheme, host, basePath string, err error) {
	u, err := url.Parse(t.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" {
		return "", "", "", fmt.Errorf("the connector's address %q is not of the form https://relay.example.com/plant1/orders", t.URL)
	}
	return u.Scheme, u.Host, "/" + strings.Trim(u.EscapedPath(), "/"), nil
}

// ways are the ways to call, without a duplicate of their kind: a connection has one key, one account, one token.
func (t Target) ways() []Auth {
	var out []Auth
	for _, a := range t.Auth {
		if a.Kind != AuthNone {
			out = append(out, a)
		}
	}
	return out
}

// security are the securityDefinitions, and the requirement of all operations. Power Platform uses the first.
func (t Target) security() (definitions *object, requirement []any) {
	definitions = &object{}
	for _, s := range t.schemes() {
		_, scheme := s.scheme()
		definitions.set(s.name, scheme)
	}
	return definitions, t.requirement()
}

// A scheme is one credential of a way, by its name in a definition.
type scheme struct {
	Auth
	name string
	way  int
}

func (t Target) schemes() (all []scheme) {
	taken := map[string]bool{}
	for i, way := range t.ways() {
		for _, a := range way.parts() {
			base, _ := a.scheme()
			name := base
			for n := 2; taken[name]; n++ {
				name = fmt.Sprintf("%s%d", base, n)
			}
			taken[name] = true
			all = append(all, scheme{a, name, i})
		}
	}
	return all
}

// requirement has an object for each way, with all of the way's credentials.
func (t Target) requirement() (list []any) {
	var last *object
	way := -1
	for _, s := range t.schemes() {
		if s.way != way {
			last, way = &object{}, s.way
			list = append(list, last)
		}
		scopes := []any{}
		if s.OAuth2 != nil {
			scopes = anys(s.OAuth2.scopes())
		}
		last.set(s.name, scopes)
	}
	return list
}

func (a Auth) scheme() (string, *object) {
	switch a.Kind {
	case AuthKey:
		if a.Query != "" && a.Header == "" {
			return "api_key", obj("type", "apiKey", "in", "query", "name", a.Query)
		}
		return "api_key", obj("type", "apiKey", "in", "header", "name", a.keyHeader())
	case AuthOAuth2:
		scopes := &object{}
		for _, s := range a.OAuth2.scopes() {
			scopes.set(s, s)
		}
		authorize, token := a.OAuth2.endpoints()
		return "oauth2_auth", obj("type", "oauth2", "flow", "accessCode", "authorizationUrl", authorize, "tokenUrl", token, "scopes", scopes)
	default:
		return "basic", obj("type", "basic")
	}
}

func (o *OAuth2) endpoints() (authorize, token string) {
	if o.Entra() {
		base := o.login() + "/" + o.Tenant + "/oauth2/v2.0/"
		return base + "authorize", base + "token"
	}
	return o.AuthorizationURL, o.TokenURL
}

func (o *OAuth2) login() string { return orText(o.Login, "https://login.microsoftonline.com") }

// scopes are what is asked for. Entra wants them with the API's name before them.
func (o *OAuth2) scopes() []string {
	if !o.Entra() {
		return o.Scopes
	}
	var out []string
	for _, s := range o.Scopes {
		if !strings.Contains(s, "/") {
			s = strings.TrimSuffix(o.Resource, "/") + "/" + s
		}
		out = append(out, s)
	}
	return out
}
