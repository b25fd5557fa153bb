package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/relay/gateway/entra"
	"sallyport/relay/store"
	"sallyport/tunnel"
)

const (
	// maxEntraRules bounds a record.
	maxEntraRules = 64
	// tokensAway is when an agent is to try again that could not be verified because Entra's keys could not be had.
	tokensAway = 15 * time.Second
)

// A TokenVerifier says who a token proves; relay/gateway/entra has one.
type TokenVerifier interface {
	Verify(ctx context.Context, token string) (entra.Identity, error)
}

// An EntraRule lets an application of the tenant link as an agent of a gateway: one application by its client GUID, or one
// service principal or managed identity by its object GUID; with an app role, if one is named.
type EntraRule struct {
	Tenant string `json:"tenant"`
	App    string `json:"app,omitempty"`
	Object string `json:"object,omitempty"`
	Role   string `json:"role,omitempty"`
}

func (r EntraRule) admits(id entra.Identity) bool {
	return id.Tenant == r.Tenant && (r.App == "" || r.App == id.App) && (r.Object == "" || r.Object == id.Object) &&
		(r.App != "" || r.Object != "") && (r.Role == "" || slices.Contains(id.Roles, r.Role))
}

// check completes and judges a rule.
func (r *EntraRule) check(tenant string) error {
	r.Tenant, r.App, r.Object = strings.ToLower(r.Tenant), strings.ToLower(r.App), strings.ToLower(r.Object)
	if r.Tenant == "" {
		r.Tenant = tenant
	}
	switch {
	case tenant == "":
		return fmt.Errorf("%w: relay.yaml has no 'entra' with the tenant and the audience", ErrEntra)
	case r.Tenant != tenant:
		return fmt.Errorf("%w: the relay takes tokens of the tenant %s alone ('entra.tenant' in relay.yaml)", ErrEntra, tenant)
	case r.App == "" && r.Object == "":
		return fmt.Errorf("%w: name the application or the object: the whole tenant is never let in", ErrEntra)
	case r.App != "" && !entra.IsGUID(r.App), r.Object != "" && !entra.IsGUID(r.Object):
		return fmt.Errorf("%w: application and object are GUIDs", ErrEntra)
	}
	return nil
}

// AllowEntra lets an application link as an agent of a gateway. A rule that is there already is no error.
func (r *Registry) AllowEntra(ctx context.Context, name string, rule EntraRule) (EntraRule, error) {
	if err := rule.check(r.c.Tenant); err != nil {
		return rule, err
	}
	err := r.records.Update(ctx, name, func(record Record) (Record, error) {
		if slices.Contains(record.Entra, rule) {
			return record, nil
		}
		if len(record.Entra) >= maxEntraRules {
			return record, fmt.Errorf("%w: a gateway has at most %d of them", ErrFull, maxEntraRules)
		}
		record.Entra = append(slices.Clone(record.Entra), rule)
		return record, nil
	})
	if err != nil {
		return rule, unknownGateway(name, err)
	}
	return rule, nil
}

// DisallowEntra takes the rules for an application or object away and closes the links that no other rule admits.
func (r *Registry) DisallowEntra(ctx context.Context, name string, rule EntraRule) error {
	if err := rule.check(r.c.Tenant); err != nil {
		return err
	}
	err := r.records.Update(ctx, name, func(record Record) (Record, error) {
		left := slices.DeleteFunc(slices.Clone(record.Entra), func(e EntraRule) bool {
			return e.Tenant == rule.Tenant && e.App == rule.App && e.Object == rule.Object && (rule.Role == "" || e.Role == rule.Role)
		})
		if len(left) == len(record.Entra) {
			return record, fmt.Errorf("%w: gateway %s has no such rule; 'sallyport-relay gateway list --json' shows them", ErrEntra, name)
		}
		record.Entra = left
		return record, nil
	})
	if err != nil {
		return unknownGateway(name, err)
	}
	return nil
}

// EntraAgentID names the agent of an identity: one for each service principal, whichever token it shows.
func EntraAgentID(id entra.Identity) string {
	sum := sha256.Sum256([]byte("entra\x00" + id.Tenant + "\x00" + id.Object))
	return base32.NewEncoding(crockford).EncodeToString(sum[:10])
}

func (r *Record) admits(id entra.Identity) bool {
	return slices.ContainsFunc(r.Entra, func(rule EntraRule) bool { return rule.admits(id) })
}

// verifyToken says who a token proves, in words for the agent's admin.
func (r *Registry) verifyToken(ctx context.Context, token string) (entra.Identity, error) {
	if r.c.Tokens == nil {
		return entra.Identity{}, refuse("no-tokens", "this relay takes no Entra tokens")
	}
	id, err := r.c.Tokens.Verify(ctx, token)
	if bad, ok := errors.AsType[*entra.Refused](err); ok {
		return id, &tunnel.Refusal{Code: "bad-token", Reason: bad.Error(), RetryAfter: time.Minute}
	}
	if err != nil {
		r.c.Log.Error("an agent's token could not be verified", "error", err)
		return id, &tunnel.Refusal{Code: "busy", Reason: "the relay cannot fetch Entra's keys at the moment", RetryAfter: tokensAway}
	}
	return id, nil
}

// entraMember makes an application that a rule admits an agent of the gateway, at its first link, and says why it is none.
func (r *Registry) entraMember(ctx context.Context, c *tunnel.Claim, peer string) (entra.Identity, error) {
	id, err := r.verifyToken(ctx, c.Token)
	if err != nil {
		return id, err
	}
	record, ok := r.records.Get(c.Gateway)
	switch {
	case !ok:
		return id, refuse("unknown-gateway", "the relay knows no gateway of this name")
	case !record.admits(id):
		return id, &tunnel.Refusal{Code: "not-allowed", Permanent: true, Reason: fmt.Sprintf(
			"no rule lets the application %s (object %s, roles %.100q) into gateway %s; an admin of the relay adds one with "+
				"'sallyport-relay gateway allow-entra %s --app %s'", id.App, id.Object, id.Roles, c.Gateway, c.Gateway, id.App)}
	case outOfBounds(*c):
		return id, refuse("bad-claim", "the link's slot or instance is out of bounds")
	}
	c.Agent = EntraAgentID(id)
	if a := record.agent(c.Agent); a == nil {
		err = r.addEntraAgent(ctx, c, id, peer)
	} else if a.Revoked() {
		err = refuse("revoked", "an admin has revoked this agent")
	}
	return id, err
}

func (r *Registry) addEntraAgent(ctx context.Context, c *tunnel.Claim, id entra.Identity, peer string) error {
	err := r.records.Update(ctx, c.Gateway, func(record Record) (Record, error) {
		if record.agent(c.Agent) != nil {
			return record, nil // another of its links was faster
		}
		if record.Agents = slices.Clone(record.Agents); len(record.Agents) >= maxAgents {
			if record.Agents = withoutOldestRevoked(record.Agents); len(record.Agents) >= maxAgents {
				return record, refuse("gateway-full", "gateway %s has as many agents as a gateway can have", record.Name)
			}
		}
		record.Agents = append(record.Agents, Agent{
			ID: c.Agent, Entra: &EntraName{Tenant: id.Tenant, App: id.App, Object: id.Object},
			Name: label(c.Name), Joined: time.Now().UTC(), Peer: peer,
		})
		return record, nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return refuse("unknown-gateway", "the relay knows no gateway of this name")
	}
	if err == nil {
		r.c.Log.Info("agent joined", "gateway", c.Gateway, "agent", c.Agent, "name", label(c.Name), "peer", peer,
			"tenant", id.Tenant, "app", id.App, "object", id.Object)
	}
	return err
}

// An EntraName is an agent's identity in Entra, as it was when the agent first linked.
type EntraName struct {
	Tenant string `json:"tenant"`
	App    string `json:"app"`
	Object string `json:"object"`
}

// renew takes a fresh token that an agent shows over its live link: of the same identity, and admitted as at the start.
func (r *Registry) renew(ctx context.Context, l *Link, p tunnel.Proven) error {
	id, err := r.verifyToken(ctx, p.Token)
	if err != nil {
		return err
	}
	record, _ := r.records.Get(l.Gateway)
	switch a := record.agent(l.Agent); {
	case EntraAgentID(id) != l.Agent || a == nil || a.Revoked():
		return errors.New("the token is another agent's")
	case !record.admits(id):
		return errors.New("no rule admits the application with this token")
	}
	l.proved.Store(&proof{key: p.Key, entra: &id})
	r.c.Log.Info("link proved with a fresh token", "gateway", l.Gateway, "agent", l.Agent, "slot", l.claim.Slot, "until", id.Expires)
	return nil
}
