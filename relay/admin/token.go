package admin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"sallyport/internal/bearer"
)

// CheckToken is the body of POST /v1/connectors/{gateway}/{name}/token. The token is looked at and forgotten.
type CheckToken struct {
	Token string `json:"token"`
}

// Endpoints answers GET /v1/connectors/{gateway}/{name}/issuer: where tokens for the connector are to be had, as its issuer
// says; "" for what it does not say.
type Endpoints struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization"`
	Token         string `json:"token"`
}

// issuerTimeout bounds what is asked of an issuer for an admin.
const issuerTimeout = 10 * time.Second

// judge is the one of a connector that takes tokens.
func (a *Admin) judge(q *http.Request) (*bearer.Judge, error) {
	gw, name := q.PathValue("gateway"), q.PathValue("name")
	pub, err := a.c.Connectors.Find(gw, name)
	if err != nil {
		return nil, err
	}
	if pub.Judge() == nil {
		return nil, &badRequest{"connector " + gw + "/" + name + " takes no tokens (its auth is " + strings.Join(pub.Auth, ", ") + ")"}
	}
	return pub.Judge(), nil
}

// checkToken says why a token is accepted, or is not.
func (a *Admin) checkToken(q *http.Request) (int, any, error) {
	var body CheckToken
	if err := read(q, &body); err != nil {
		return 0, nil, err
	}
	j, err := a.judge(q)
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(q.Context(), issuerTimeout)
	defer cancel()
	report, outage := j.Explain(ctx, strings.TrimSpace(body.Token))
	if outage != nil {
		// What a strange address answered is for the log: who publishes is not to read the relay's surroundings by it.
		a.c.Log.Warn("admin: a token could not be judged", "actor", actor(q.Context()), "issuer", j.Rule().IssuerURL(), "error", outage)
	}
	return http.StatusOK, report, nil
}

// tokenIssuer says where tokens are to be had.
func (a *Admin) tokenIssuer(q *http.Request) (int, any, error) {
	j, err := a.judge(q)
	if err != nil {
		return 0, nil, err
	}
	out := Endpoints{Issuer: j.Rule().IssuerURL()}
	ctx, cancel := context.WithTimeout(q.Context(), issuerTimeout)
	defer cancel()
	at, err := j.Endpoints(ctx)
	if err != nil {
		a.c.Log.Warn("admin: an issuer's configuration could not be read", "actor", actor(q.Context()), "issuer", out.Issuer, "error", err)
		return 0, nil, &issuerAway{out.Issuer}
	}
	out.Authorization, out.Token = at.Authorization, at.Token
	return http.StatusOK, out, nil
}

// issuerAway says that an issuer cannot be asked.
type issuerAway struct{ issuer string }

func (e *issuerAway) Error() string {
	return "the relay cannot read the configuration of " + e.issuer + "; its log says why"
}

// CheckToken has the relay judge a token for a connector.
func (c *Client) CheckToken(ctx context.Context, gateway, name, token string) (bearer.Report, error) {
	return call[bearer.Report](ctx, c, http.MethodPost, CheckToken{token}, "connectors", gateway, name, "token")
}

// Issuer says where tokens for a connector are to be had.
func (c *Client) Issuer(ctx context.Context, gateway, name string) (Endpoints, error) {
	return call[Endpoints](ctx, c, http.MethodGet, nil, "connectors", gateway, name, "issuer")
}
