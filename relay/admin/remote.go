package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"sallyport/internal/issuer"
)

// A Role is what a principal may do over HTTPS.
type Role string

// The roles. Each may do what those before it may.
const (
	Viewer    Role = "viewer"    // see gateways, agents, connectors and the names of keys
	Publisher Role = "publisher" // publish and change connectors of some gateways, and make and revoke their keys
	Everyone  Role = "admin"     // everything that the local socket allows
)

// A Grant gives a role to whoever's token has Value in the roles claim. A publisher has Gateways.
type Grant struct {
	Value    string
	Role     Role
	Gateways []string
}

// A principal is who calls over HTTPS, as a token proves it.
type principal struct {
	subject, name string
	admin, viewer bool
	gateways      map[string]bool // of a publisher
}

func (p *principal) String() string {
	if p.name == "" {
		return "oidc:" + p.subject
	}
	return "oidc:" + p.subject + " (" + p.name + ")"
}

// principalKey is where Remote puts the principal. Unlike the local actor it permits.
type principalKey struct{}

// viewable and publishable are the routes that other roles than admin may call; a route that is not here is for admins.
var (
	viewable = map[string]bool{
		"GET /v1/status": true, "GET /v1/gateways": true, "GET /v1/connectors": true,
		"GET /v1/connectors/{gateway}/{name}/keys": true, "GET /v1/connectors/{gateway}/{name}/definition": true, "GET /v1/whoami": true,
		"GET /v1/connectors/{gateway}/{name}/changes": true, "GET /v1/agents/{id}/receipts": true,
	}
	publishable = map[string]bool{
		"POST /v1/connectors": true, "PUT /v1/connectors/{gateway}/{name}": true, "DELETE /v1/connectors/{gateway}/{name}": true,
		"POST /v1/connectors/{gateway}/{name}/keys": true, "DELETE /v1/connectors/{gateway}/{name}/keys/{id}": true,
		"POST /v1/connectors/{gateway}/{name}/exported": true,
		"POST /v1/connectors/{gateway}/{name}/shares":   true, "DELETE /v1/connectors/{gateway}/{name}/shares": true,
		"POST /v1/connectors/{gateway}/{name}/token": true, "GET /v1/connectors/{gateway}/{name}/issuer": true,
	}
)

// forbidden is a request that the principal's role does not allow.
type forbidden struct{ text string }

func (e *forbidden) Error() string { return e.text }

// permit says why the request's sender may not do what it asks for. Whoever came by the local socket may do everything;
// whoever came neither by it nor with a proven principal, nothing.
func permit(q *http.Request) error {
	p, remote := q.Context().Value(principalKey{}).(*principal)
	if !remote {
		if _, local := q.Context().Value(actorKey{}).(string); local {
			return nil
		}
		return &forbidden{"nobody is signed on"}
	}
	switch {
	case p.admin:
		return nil
	case viewable[q.Pattern] && (p.viewer || len(p.gateways) > 0):
		return nil
	case q.Pattern == "POST /v1/connectors" && len(p.gateways) > 0:
		return nil // publish looks at the gateway, which is in the body
	case publishable[q.Pattern]:
		return p.mayPublish(q.PathValue("gateway"))
	}
	return &forbidden{fmt.Sprintf("%s has no role that allows this; it takes the role admin", p)}
}

// mayPublish is permit for what is in a body.
func mayPublish(ctx context.Context, gateway string) error {
	if p, remote := ctx.Value(principalKey{}).(*principal); remote && !p.admin {
		return p.mayPublish(gateway)
	}
	return nil
}

func (p *principal) mayPublish(gateway string) error {
	if p.gateways[gateway] {
		return nil
	}
	return &forbidden{fmt.Sprintf("%s has no role that allows this; it takes the role publisher of gateway %.63s", p, gateway)}
}

// Remote answers the same API over HTTPS, to whoever shows a bearer token of the configured issuer. It answers no browser:
// there is no CORS, and nothing in it acts on a cookie.
func (a *Admin) Remote() http.Handler {
	api := a.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		rc := http.NewResponseController(w) // the public listener has no deadline for bodies
		_ = rc.SetReadDeadline(time.Now().Add(requestTimeout))
		_ = rc.SetWriteDeadline(time.Now().Add(2 * requestTimeout))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if q.Method == http.MethodGet && q.URL.Path == "/v1/login" {
			answer(w, http.StatusOK, "application/json", a.c.OIDC.login())
			return
		}
		p, err := a.principal(q)
		if err != nil {
			a.unproved(w, q, err)
			return
		}
		api.ServeHTTP(w, q.WithContext(context.WithValue(q.Context(), principalKey{}, p)))
	})
}

// unproved answers a request without a token that counts, and says no more to a stranger than a client needs.
func (a *Admin) unproved(w http.ResponseWriter, q *http.Request, err error) {
	peer := q.RemoteAddr
	if a.c.Peer != nil {
		peer = a.c.Peer(q)
	}
	if _, ok := errors.AsType[*issuer.Unavailable](err); ok {
		a.c.Log.Error("admin: the issuer's keys cannot be had; nobody can sign on over HTTPS", "peer", peer, "error", err)
		w.Header().Set("Retry-After", "15")
		problem(w, &Problem{
			Type: "about:blank", Status: http.StatusServiceUnavailable, Title: "Nobody can sign on at the moment.",
			Detail: "the relay cannot fetch the issuer's keys; its log says why",
		})
		return
	}
	challenge, detail := `Bearer realm="sallyport-relay"`, "sign on first: sallyport-relay login URL"
	if !errors.Is(err, errNoToken) {
		challenge, detail = challenge+`, error="invalid_token"`, "the token does not count; sign on again: sallyport-relay login URL"
		a.c.Log.Warn("admin: a sign-on over HTTPS was refused", "peer", peer, "method", q.Method, "path", q.URL.Path, "error", err)
	}
	w.Header().Set("WWW-Authenticate", challenge)
	problem(w, &Problem{Type: "about:blank", Status: http.StatusUnauthorized, Title: "Nobody is signed on.", Detail: detail})
}

// errNoToken is the error of a request that shows none.
var errNoToken = errors.New("no bearer token")

// bearerToken gives the one token of a request (RFC 6750 section 2.1; a token in the query or a form is not looked at).
func bearerToken(q *http.Request) (string, error) {
	values := q.Header.Values("Authorization")
	if len(values) == 0 {
		return "", errNoToken
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken {
		return "", errors.New("the Authorization field holds no bearer token")
	}
	return token, nil
}

// maxToken bounds a bearer token.
const maxToken = 16 << 10

// whoami answers GET /v1/whoami.
func (a *Admin) whoami(q *http.Request) (int, any, error) {
	me := Whoami{Actor: actor(q.Context()), Role: Everyone, Gateways: []string{}}
	if p, remote := q.Context().Value(principalKey{}).(*principal); remote && !p.admin {
		me.Role = Viewer
		for g := range p.gateways {
			me.Role, me.Gateways = Publisher, append(me.Gateways, g)
		}
	}
	return http.StatusOK, me, nil
}
