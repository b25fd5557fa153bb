package gateway

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/tunnel"
)

const (
	// maxAgents and maxCodes bound a record. There are at most maxCodes open codes, and as many used ones.
	maxAgents = 128
	maxCodes  = 32
)

// A Record is a gateway as the store keeps it. It is never modified; changes are made to a copy.
type Record struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Agents  []Agent   `json:"agents,omitempty"`
	Codes   []Code    `json:"codes,omitempty"`
	// Entra says which applications link as agents without a join.
	Entra []EntraRule `json:"entra,omitempty"`
}

// An Agent is a member of a gateway.
type Agent struct {
	ID string `json:"id"`
	// Key is the agent's public key (Ed25519); none if it signs on with Entra.
	Key []byte `json:"key"`
	// Entra is who the agent is there.
	Entra *EntraName `json:"entra,omitempty"`
	// KeySince is when Key took the place of another; zero: the agent joined with it.
	KeySince time.Time `json:"keySince,omitzero"`
	// OldKey is the key before Key; it is good until OldUntil, so that the agent can change over.
	OldKey   []byte    `json:"oldKey,omitempty"`
	OldUntil time.Time `json:"oldUntil,omitzero"`
	// Name is what the agent's admin called the machine.
	Name   string    `json:"name,omitempty"`
	Joined time.Time `json:"joined"`
	// Pending says that it joined with a code that an admin approves each agent of, and that none has yet.
	Pending bool `json:"pending,omitempty"`
	// Code is the ID of the code that it joined with, Peer the address that it came from: for who approves.
	Code string `json:"code,omitempty"`
	Peer string `json:"peer,omitempty"`
	// RevokedAt is when an admin revoked the agent; it stays on record, so that it can be told. RefusedAt is set too if it
	// was never approved.
	RevokedAt time.Time `json:"revokedAt,omitzero"`
	RefusedAt time.Time `json:"refusedAt,omitzero"`
}

// Revoked reports whether the agent may no longer link.
func (a *Agent) Revoked() bool { return !a.RevokedAt.IsZero() }

// A Code is a join code that has not expired. The code itself is not kept.
type Code struct {
	// Key is the public half of the key derived from the code (tunnel.JoinKey).
	Key     []byte    `json:"key"`
	Expires time.Time `json:"expires"`
	// Uses is how many agents can join with it; 0 is one. Approve has each of them wait for an admin.
	Uses    int  `json:"uses,omitempty"`
	Approve bool `json:"approve,omitempty"`
	// UsedBy are the IDs of the agents that have joined with it.
	UsedBy users `json:"usedBy,omitempty"`
}

// ID names the code without giving it away.
func (c *Code) ID() string { return AgentID(c.Key)[:codeIDSize] }

// codeIDSize is the length of a code's ID: 50 bits, among at most maxCodes of a gateway.
const codeIDSize = 10

// left is how many agents can still join with the code.
func (c *Code) left() int { return max(c.Uses, 1) - len(c.UsedBy) }

// users are IDs of agents. Records of earlier versions have one ID in the place of a list.
type users []string

func (u *users) UnmarshalJSON(text []byte) error {
	if one := ""; json.Unmarshal(text, &one) == nil && one != "" {
		*u = users{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(u))
}

// AgentID derives an agent's ID from its public key: 80 bits of its SHA-256, in Crockford's base 32, so that nobody can
// take another agent's ID.
func AgentID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return base32.NewEncoding(crockford).EncodeToString(sum[:10])
}

const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

func (r *Record) agent(id string) *Agent {
	for i := range r.Agents {
		if r.Agents[i].ID == id {
			return &r.Agents[i]
		}
	}
	return nil
}

// withCode adds a code, and drops the expired ones and the oldest of the used ones beyond maxCodes. Used ones are kept for
// the agent that repeats its join, and to tell others what has happened; they are not open.
func (r Record) withCode(c Code, now time.Time) (Record, error) {
	live := slices.DeleteFunc(slices.Clone(r.Codes), func(c Code) bool { return now.After(c.Expires) })
	open := 0
	for i := range live {
		if live[i].left() > 0 {
			open++
		}
	}
	if open >= maxCodes {
		return r, fmt.Errorf("%w: %d join codes of gateway %s wait to be used and have not expired yet", ErrFull, open, r.Name)
	}
	for used := len(live) - open; used > maxCodes; used-- {
		oldest := slices.IndexFunc(live, func(c Code) bool { return c.left() <= 0 }) // codes are in the order of their making
		live = slices.Delete(live, oldest, oldest+1)
	}
	r.Codes = append(live, c)
	return r, nil
}

// redeem makes the agent a member, if the code allows it; who has its key, name and address. The same agent may redeem
// its code again, in case the answer was lost on the way.
func (r Record) redeem(codeKey ed25519.PublicKey, who Agent, now time.Time) (Record, error) {
	i := slices.IndexFunc(r.Codes, func(c Code) bool { return codeKey.Equal(ed25519.PublicKey(c.Key)) })
	who.ID = AgentID(who.Key)
	switch {
	case i < 0:
		return r, refuse("code-unknown", "this join code is unknown or was removed; "+anotherCode, r.Name)
	case now.After(r.Codes[i].Expires):
		return r, refuse("code-expired", "this join code has expired; "+anotherCode, r.Name)
	case r.replacedKey(who.ID, who.Key):
		return r, refuse("key-replaced", "this agent's key was replaced by another, and does not come back; join with a new one (--replace)")
	case slices.Contains(r.Codes[i].UsedBy, who.ID):
		if a := r.agent(who.ID); a != nil && !a.Revoked() {
			return r, nil
		}
		return r, refuse("code-used", "this join code was used, and the agent was revoked or removed since; "+anotherCode, r.Name)
	case r.Codes[i].left() <= 0 && r.Codes[i].Uses > 1:
		return r, refuse("code-used", "this join code has been used by as many agents as it is good for; "+anotherCode, r.Name)
	case r.Codes[i].left() <= 0:
		return r, refuse("code-used", "this join code was used by another agent; "+anotherCode, r.Name)
	}
	r.Codes = slices.Clone(r.Codes)
	r.Codes[i].UsedBy = append(slices.Clone(r.Codes[i].UsedBy), who.ID)
	// An agent that was revoked and holds a new code was let in again by an admin.
	r.Agents = slices.DeleteFunc(slices.Clone(r.Agents), func(a Agent) bool { return a.ID == who.ID })
	if len(r.Agents) >= maxAgents { // a revoked agent keeps nobody out
		if r.Agents = withoutOldestRevoked(r.Agents); len(r.Agents) >= maxAgents {
			return r, refuse("gateway-full", "gateway %s has as many agents as a gateway can have", r.Name)
		}
	}
	who.Name, who.Joined, who.Pending, who.Code = label(who.Name), now, r.Codes[i].Approve, r.Codes[i].ID()
	r.Agents = append(r.Agents, who)
	return r, nil
}

const anotherCode = "make another with 'sallyport-relay gateway join %s'"

// refuse words a refusal that an admin has to lift.
func refuse(code, format string, v ...any) *tunnel.Refusal {
	return &tunnel.Refusal{Code: code, Reason: fmt.Sprintf(format, v...), Permanent: true}
}

func withoutOldestRevoked(agents []Agent) []Agent {
	oldest := -1
	for i := range agents {
		if agents[i].Revoked() && (oldest < 0 || agents[i].RevokedAt.Before(agents[oldest].RevokedAt)) {
			oldest = i
		}
	}
	if oldest < 0 {
		return agents
	}
	return slices.Delete(agents, oldest, oldest+1)
}

// label makes a name from the other side fit to be shown and logged: printable, and at most 64 bytes.
func label(name string) string { return labelUpTo(name, 64) }

// labelUpTo bounds foreign text, in bytes.
func labelUpTo(name string, most int) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, name)
	return name[:min(len(name), most)]
}

// A NameError says that a name cannot be a gateway's, an API's or a connector's.
type NameError struct{ Name string }

func (e *NameError) Error() string {
	return fmt.Sprintf("%.80q cannot be a name: use 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end", e.Name)
}

// CheckName reports with a *NameError that a name cannot be a gateway's, an API's or a connector's: they are DNS labels
// (RFC 1123 section 2.1), in lower case because URLs and host names are made of them.
func CheckName(name string) error {
	if name == "" || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return &NameError{name}
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return &NameError{name}
		}
	}
	return nil
}
