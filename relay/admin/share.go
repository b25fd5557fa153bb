package admin

import (
	"net/http"
	"time"

	"sallyport/relay/connector"
)

// AddShare is the body of POST /v1/connectors/{gateway}/{name}/shares.
type AddShare struct {
	// Format is power-platform, postman or openapi3.
	Format  string `json:"format"`
	KeepIDs bool   `json:"keepIds,omitempty"`
	// Expires is how long the link works, in nanoseconds; 0: a day.
	Expires time.Duration `json:"expires,omitempty"`
}

// Shared answers it. Whoever has the URL can read the definition until then.
type Shared struct {
	URL     string    `json:"url"`
	Format  string    `json:"format"`
	Expires time.Time `json:"expires"`
}

// share makes a link to a connector's definition. The record of it has no token.
func (a *Admin) share(q *http.Request) (int, any, error) {
	var body AddShare
	if err := read(q, &body); err != nil {
		return 0, nil, err
	}
	gw, name := q.PathValue("gateway"), q.PathValue("name")
	pub, err := a.c.Connectors.Find(gw, name)
	if err != nil {
		return 0, nil, err
	}
	s, err := connector.NewShare(body.Format, body.KeepIDs, body.Expires, time.Now())
	if err != nil {
		return 0, nil, err
	}
	link, err := a.c.Share(q.Context(), pub, s)
	if err != nil {
		return 0, nil, err
	}
	until := time.Unix(0, s.Until).UTC()
	a.event(q, "definition shared", "gateway", gw, "connector", name, "format", body.Format, "until", until)
	return http.StatusCreated, Shared{URL: link, Format: body.Format, Expires: until}, nil
}

func (a *Admin) revokeShares(q *http.Request) (int, any, error) {
	gw, name := q.PathValue("gateway"), q.PathValue("name")
	if err := a.c.Connectors.RevokeShares(q.Context(), gw, name, time.Now()); err != nil {
		return 0, nil, err
	}
	a.event(q, "links to the definition revoked", "gateway", gw, "connector", name)
	return http.StatusNoContent, nil, nil
}
