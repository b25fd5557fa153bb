package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"sallyport/relay/operation"
)

const (
	// sharePath is where a connector's definition is given out by a link, below its base path; the token and a file's name
	// follow.
	sharePath = "/_/definition/"
	// MaxShare bounds how long a link works, and shareLife is how long it does if nothing is said.
	MaxShare  = 30 * 24 * time.Hour
	shareLife = 24 * time.Hour
	// maxShareToken bounds a token: the terms are short.
	maxShareToken = 512
	// sharesAtOnce are how many links of one connector are answered at once: each answer is made anew.
	sharesAtOnce = 2
)

// shareRate is how often links of one connector are answered: whoever imports asks once or twice.
func shareRate() Rate { return Rate{Calls: 30, Per: time.Minute} }

// A Share is what a link to a connector's definition gives out. Nothing is stored for it: the link carries it, signed.
type Share struct {
	// Format is the file's: power-platform, postman or openapi3.
	Format string `json:"f"`
	// KeepIDs leaves operation IDs as they are.
	KeepIDs bool `json:"k,omitempty"`
	// Made and Until are in nanoseconds since 1970.
	Made  int64 `json:"m"`
	Until int64 `json:"u"`
}

// NewShare bounds how long a link works; life 0 is a day.
func NewShare(format string, keepIDs bool, life time.Duration, now time.Time) (Share, error) {
	if life == 0 {
		life = shareLife
	}
	if life < time.Minute || life > MaxShare {
		return Share{}, &Invalid{Problems: []string{fmt.Sprintf("expires: %s is out of bounds (1m to %s)", life, MaxShare)}}
	}
	return Share{Format: format, KeepIDs: keepIDs, Made: now.UnixNano(), Until: now.Add(life).UnixNano()}, nil
}

// Path is where the link leads, below the connector's address. Who has it needs no credential.
func (s Share) Path(l *operation.Ledger, connectorID, file string) string {
	terms, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("connector: a link's terms cannot be encoded: %v", err)) // plain values
	}
	return sharePath + l.Share(connectorID, string(terms)) + "/" + file
}

// RevokeShares voids all links to a connector's definition that were made until now.
func (d *Directory) RevokeShares(ctx context.Context, gateway, name string, now time.Time) error {
	return d.change(ctx, gateway, name, func(e entry) (entry, error) {
		e.SharesSince = now.UTC()
		return e, nil
	})
}

// share answers a GET at a signed link. Anything else below the path is judged like any other call, so that a guess needs a
// credential; the token is in no record either way.
func (c *call) share(pub *Published) (answered bool, err error) {
	path, _, _ := strings.Cut(c.place.Target, "?")
	rest, found := strings.CutPrefix(path, sharePath)
	if !found || c.p.o.Operations == nil || c.p.o.Shared == nil {
		return false, nil
	}
	if at := strings.Index(c.event.Path, sharePath); at >= 0 {
		c.event.Path = c.event.Path[:at+len(sharePath)] + "***"
	}
	token, _, _ := strings.Cut(rest, "/")
	if len(token) > maxShareToken {
		return false, nil
	}
	terms, signed := c.p.o.Operations.CheckShare(pub.ID, token)
	var s Share
	if !signed || json.Unmarshal([]byte(terms), &s) != nil {
		return false, nil
	}
	if err := c.reads("A definition"); err != nil {
		return false, err
	}
	revoked := !pub.sharesSince.IsZero() && s.Made <= pub.sharesSince.UnixNano()
	if revoked || time.Now().UnixNano() >= s.Until {
		return false, NewProblem("no-operation", "This link to the definition has expired, or was revoked. Ask for another one: sallyport-relay connector share.")
	}
	if err := c.enter("share "+pub.ID, "Links to the definition", shareRate(), sharesAtOnce); err != nil {
		return false, err
	}
	return true, c.giveShared(pub, s)
}

func (c *call) giveShared(pub *Published, s Share) error {
	body, err := c.p.o.Shared(c.r.Context(), pub, s)
	if err != nil {
		if p, ok := errors.AsType[*Problem](err); ok {
			return p
		}
		return NewProblem("internal", "The definition could not be made. The relay's log has the reason under this request ID.").because(err)
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	c.head(http.StatusOK)
	if c.r.Method == http.MethodHead {
		return nil
	}
	return c.send(body)
}
