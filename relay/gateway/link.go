package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"sallyport/tunnel"
)

const (
	// maxAPIs bounds what one agent can offer.
	maxAPIs = 1024
	// maxHash is "sha256:" and 64 digits, and room for another kind.
	maxHash = 128
)

// A Link is a live link to an agent of a gateway. What can be done with it is in tunnel.Link; Open begins a stream.
type Link struct {
	*tunnel.Link
	// Gateway and Agent say whose link it is, as proved in the handshake.
	Gateway, Agent string
	Since          time.Time

	claim  tunnel.Claim
	silent []*Link // links of another process that this one may replace: they gave no sign of life
	peer   string
	bond   *tunnel.Bond
	offer  atomic.Pointer[Offer] // nil before the agent has made one
	proved atomic.Pointer[proof] // in the handshake, or later over the link

	proving   atomic.Bool            // a proof is being looked at
	unread    atomic.Pointer[[]byte] // the last one that came meanwhile
	anchoring atomic.Bool            // a head of its record is being looked at
	head      atomic.Pointer[[]byte] // the last one that came meanwhile

	noticing atomic.Bool       // notices are being written down
	notices  chan PolicyNotice // of capacity maxNotices

	outdated atomic.Bool // its proof has ended, and it is being drained for that
}

// An Offer is the body of the control message "offer": the APIs that an agent offers. A newer one replaces it.
type Offer struct {
	APIs []OfferedAPI `json:"apis"`
	// Policy is a hash of the allow-list, for people to compare agents by.
	Policy string `json:"policy,omitempty"`
}

// An OfferedAPI is an API as the relay knows it: by name, never by address.
type OfferedAPI struct {
	Name string `json:"name"`
	// Policy is a hash of what the agent allows, for people to compare agents by; "" from older agents.
	Policy string `json:"policy,omitempty"`
	// Definition is the digest of the API's description, which the agent has ready; "none" if it gives none; "" if it does
	// not say.
	Definition string `json:"definition,omitempty"`
	// CallerToken says that the agent wants the bearer token with which a caller has proved itself to the relay.
	CallerToken bool `json:"caller_token,omitempty"`
	// Paused says that the agent refuses all calls of it for now.
	Paused bool `json:"paused,omitempty"`
}

// ControlOffer is the kind of the control message that carries an Offer.
const ControlOffer = "offer"

// ControlClone is the kind of the control message that carries a Clone: it tells an agent that another process has shown
// its key and was refused.
const ControlClone = "clone"

// parseOffer reads an offer; unknown members are ignored.
func parseOffer(body []byte) (*Offer, error) {
	var o Offer
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, fmt.Errorf("read the agent's offer: %w", err)
	}
	if len(o.APIs) > maxAPIs {
		return nil, fmt.Errorf("the agent offers %d APIs; at most %d are taken", len(o.APIs), maxAPIs)
	}
	for i := range o.APIs {
		api := &o.APIs[i]
		if err := CheckName(api.Name); err != nil {
			return nil, fmt.Errorf("read the agent's offer: %w", err)
		}
		api.Policy = labelUpTo(api.Policy, maxHash)
		if api.Definition != definitionNone && !isDigest(api.Definition) {
			api.Definition = "" // of a newer version
		}
	}
	o.Policy = labelUpTo(o.Policy, maxHash)
	return &o, nil
}

// Offers reports whether the agent offers the API.
func (l *Link) Offers(api string) bool { return l.offer.Load().has(api) }

func (o *Offer) has(api string) bool {
	return o != nil && slices.ContainsFunc(o.APIs, func(a OfferedAPI) bool { return a.Name == api && !a.Paused })
}

// whyNot says why the agent does not offer the API: ErrPaused or ErrNotOffered.
func (l *Link) whyNot(api string) error {
	o := l.offer.Load()
	if o != nil && slices.ContainsFunc(o.APIs, func(a OfferedAPI) bool { return a.Name == api && a.Paused }) {
		return ErrPaused
	}
	return ErrNotOffered
}

// SetOffer takes a link's offer, as an agent words it, where no Registry does.
func (l *Link) SetOffer(body []byte) error {
	o, err := parseOffer(body)
	if err == nil {
		l.offer.Store(o)
	}
	return err
}

// WantsToken reports whether the agent wants callers' bearer tokens for the API.
func (l *Link) WantsToken(api string) bool {
	o := l.offer.Load()
	return o != nil && slices.ContainsFunc(o.APIs, func(a OfferedAPI) bool { return a.Name == api && a.CallerToken })
}

// ready reports whether the link can be picked. One whose agent has not said yet what it offers is not there yet.
func (l *Link) ready() bool { return l.offer.Load() != nil && l.Usable() }

func (l *Link) status() LinkStatus {
	s := LinkStatus{
		Slot: l.claim.Slot, Since: l.Since, Peer: l.peer, Version: label(l.claim.Version),
		RTT: l.RTT(), Streams: l.Streams(), State: "up", APIs: []string{},
	}
	if l.Draining() != "" {
		s.State = "draining"
	} else if !l.Usable() {
		s.State = "silent"
	}
	if o := l.offer.Load(); o != nil {
		for _, api := range o.APIs {
			name := api.Name
			if api.Paused {
				name += " (paused)"
			}
			s.APIs = append(s.APIs, name)
		}
	}
	return s
}

// Pick returns the link with the fewest streams among those that are usable and whose agent offers the API, but none of
// exclude. One whose agent has one among exclude is picked only if there is no other, and one that owes a sign of life only if
// there is none of those: what ended one link of a process soon ends its others. The error is ErrUnknownGateway, ErrNoLink,
// ErrNotOffered or ErrPaused.
func (r *Registry) Pick(gateway, api string, exclude ...*Link) (*Link, error) {
	s := (*r.sites.Load())[gateway]
	if s == nil {
		return nil, ErrUnknownGateway
	}
	var best *Link
	var least int
	var doubt int // best is no more than a resort
	refusal := ErrNoLink
	for _, l := range s.all() {
		if !l.ready() {
			continue
		}
		if !l.Offers(api) {
			if refusal != ErrPaused {
				refusal = l.whyNot(api)
			}
			continue
		}
		if slices.Contains(exclude, l) {
			continue
		}
		n, doubts := l.Streams(), 0
		switch {
		case l.Suspect():
			doubts = 2
		case slices.ContainsFunc(exclude, func(x *Link) bool { return x.Agent == l.Agent }):
			doubts = 1
		}
		if best == nil || doubts < doubt || doubts == doubt && n < least {
			best, least, doubt = l, n, doubts
		}
	}
	if best == nil {
		if errors.Is(refusal, ErrNotOffered) && slices.ContainsFunc(exclude, func(l *Link) bool { return l.Offers(api) }) {
			return nil, ErrNoLink
		}
		return nil, refusal
	}
	return best, nil
}

// errClone refuses a link whose handshake found no other process, but which came second all the same. The agent is told
// in the form of a refusal when it tries again.
var errClone = errors.New("another process with this agent's key has linked at the same time")

// attach makes a link pickable. It fails if the agent or its gateway was removed since the handshake began, if another
// process with the agent's key was faster, or if the relay drains. A link that it replaces is returned.
func (r *Registry) attach(l *Link) (replaced []*Link, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return nil, errors.New("the relay stops")
	}
	s := (*r.sites.Load())[l.Gateway]
	if s == nil {
		return nil, errors.New("the gateway was removed")
	}
	if a := s.record.Load().agent(l.Agent); a == nil || a.Revoked() || a.Pending {
		return nil, errors.New("the agent was revoked")
	}
	for _, other := range s.all() {
		if other.Agent != l.Agent {
			continue
		}
		switch {
		case other.claim.Instance == l.claim.Instance && other.claim.Slot == l.claim.Slot:
			if other.claim.Generation >= l.claim.Generation {
				return nil, errors.New("a newer link of this slot is up")
			}
			replaced = append(replaced, other)
		case other.claim.Instance == l.claim.Instance:
		case slices.Contains(l.silent, other) || other.Draining() != "":
			replaced = append(replaced, other)
		default: // it has linked since the handshake began: whoever was first stays
			return nil, errClone
		}
	}
	for _, old := range replaced {
		r.retiring[old] = struct{}{}                // until retire is done
		if old.claim.Instance == l.claim.Instance { // the same process offers the same until it says otherwise
			l.offer.CompareAndSwap(nil, old.offer.Load())
		}
	}
	next := slices.DeleteFunc(slices.Clone(s.all()), func(o *Link) bool { return slices.Contains(replaced, o) })
	next = append(next, l)
	s.links.Store(&next)
	delete(s.gone, l.Agent)
	r.tell()
	return replaced, nil
}

// detach takes a link out of its site, if it is still there.
func (r *Registry) detach(l *Link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range *r.sites.Load() {
		if slices.Contains(s.all(), l) {
			next := slices.DeleteFunc(slices.Clone(s.all()), func(o *Link) bool { return o == l })
			s.links.Store(&next)
			if a := s.record.Load().agent(l.Agent); a != nil && !a.Revoked() {
				s.departed(l)
			}
		}
	}
}

// rivals are the links of the same agent that belong to another process and are not being drained.
func (r *Registry) rivals(c tunnel.Claim) (rivals []*Link) {
	s := (*r.sites.Load())[c.Gateway]
	if s == nil {
		return nil
	}
	for _, l := range s.all() {
		if l.Agent == c.Agent && l.claim.Instance != c.Instance && l.Draining() == "" {
			rivals = append(rivals, l)
		}
	}
	return rivals
}

// occupied reports whether one of the links answers, and so is a second process with the same key.
func (r *Registry) occupied(ctx context.Context, rivals []*Link) bool {
	ctx, cancel := context.WithTimeout(ctx, r.c.CloneProbe)
	defer cancel()
	answers := make(chan bool, len(rivals))
	for _, l := range rivals {
		r.serving.Go(func() { answers <- l.Probe(ctx) == nil })
	}
	for range rivals {
		if <-answers {
			return true
		}
	}
	return false
}
