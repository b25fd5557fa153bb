package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/websocket"

	"sallyport/relay/gateway/entra"
	"sallyport/relay/store"
	"sallyport/tunnel"
)

// maxSlots bounds how many links one process of an agent keeps.
const maxSlots = 16

// ServeLink answers GET /_/link: it upgrades to a WebSocket and has the agent prove itself. The link is served to its end after
// it has returned.
func (r *Registry) ServeLink(w http.ResponseWriter, q *http.Request) {
	// A browser sends Origin with every WebSocket, an agent never does.
	if q.Header.Get("Origin") != "" {
		http.Error(w, "links are for agents, not for browsers", http.StatusForbidden)
		return
	}
	if !websocket.IsWebSocketUpgrade(q) {
		askForUpgrade(w, q)
		return
	}
	if !slices.Contains(websocket.Subprotocols(q), tunnel.Subprotocol) {
		http.Error(w, "this relay speaks "+tunnel.Subprotocol, http.StatusBadRequest)
		return
	}
	if !r.enter() {
		refuseBusy(w, "the relay stops", laterLeast)
		return
	}
	defer r.serving.Done()
	peer := r.c.Peer(q)
	if !r.unproved.enter(q.Context(), peer) {
		refuseBusy(w, "too many links are being opened at once", later())
		return
	}
	l := r.greet(w, q, peer)
	r.unproved.leave(peer)
	if l != nil {
		r.serve(context.Background(), l)
	}
}

// askForUpgrade answers whoever came without an upgrade: a curious person, a monitor, or an agent whose upgrade was lost on
// the way.
func askForUpgrade(w http.ResponseWriter, q *http.Request) {
	if q.ProtoMajor == 1 { // HTTP/2 has no such field (RFC 9113 section 8.2.2)
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
	}
	http.Error(w, "This is where Sallyport's agents link, over a WebSocket ("+tunnel.Subprotocol+"). There is nothing here for "+
		"browsers and callers.\nIf an agent gets this answer, a proxy or balancer on its way has removed the upgrade.",
		http.StatusUpgradeRequired)
}

// enter counts a request that may become a link; Drain waits for it.
func (r *Registry) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return false
	}
	r.serving.Add(1)
	return true
}

func refuseBusy(w http.ResponseWriter, text string, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())))
	http.Error(w, text, http.StatusServiceUnavailable)
}

// greet upgrades and proves. It returns nil if there is no link to serve: refused, broken off, or a join, which is
// done when it is proved.
func (r *Registry) greet(w http.ResponseWriter, q *http.Request, peer string) *Link {
	upgrader := tunnel.NewUpgrader()
	upgrader.CheckOrigin = func(*http.Request) bool { return true } // no Origin: ServeLink looked
	ws, err := upgrader.Upgrade(w, q, nil)
	if err != nil {
		r.c.Log.Debug("link refused", "peer", peer, "reason", err)
		return nil // Upgrade has answered
	}
	id := tunnel.RelayIdentity{Key: r.key, Node: r.c.Node, Nodes: r.c.Nodes, Version: r.c.Version, Tokens: r.c.Tokens != nil}
	var token *entra.Identity
	var silent []*Link // links of another process with the agent's key, which did not answer
	claim, welcome, err := tunnel.Greet(q.Context(), ws, id, func(ctx context.Context, c tunnel.Claim) (w tunnel.Welcome, err error) {
		if c.Kind == tunnel.KindLink && c.Token != "" {
			who, err := r.entraMember(ctx, &c, peer)
			if err != nil {
				return w, err
			}
			token = &who
		}
		w, silent, err = r.verify(ctx, c, token, peer)
		return w, err
	})
	if tunnel.IsDeclined(err) {
		r.c.Log.Debug("an agent looks for another relay node", "peer", peer)
		return nil
	}
	if err != nil {
		r.c.Log.Warn("link refused", "peer", peer, "error", err)
		return nil
	}
	if claim.Kind == tunnel.KindRotate {
		_ = ws.Close() // the verdict was the last word
		return nil
	}
	if claim.Kind == tunnel.KindCheck {
		r.c.Log.Info("an agent's installation is examined", "gateway", claim.Gateway, "agent", claim.Agent, "peer", peer)
		_ = ws.Close() // the same
		return nil
	}
	if claim.Kind == tunnel.KindJoin {
		r.c.Log.Info("agent joined", "gateway", claim.Gateway, "agent", welcome.Agent, "name", label(claim.Name), "peer", peer,
			"fingerprint", tunnel.Fingerprint(claim.Key), "pending", welcome.Pending)
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "joined")
		_ = ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
		_ = ws.Close()
		return nil
	}
	claim.Agent, claim.Token = welcome.Agent, ""
	l := &Link{Gateway: claim.Gateway, Agent: claim.Agent, Since: time.Now(), claim: claim, peer: peer, silent: silent, bond: welcome.Bond}
	l.proved.Store(&proof{key: claim.Key, entra: token})
	o := r.c.Link
	o.Log = r.c.Log.With("gateway", l.Gateway, "agent", l.Agent, "slot", claim.Slot)
	o.Serve, o.GoAway = nil, nil
	o.Control = func(kind string, body []byte) { r.control(l, kind, body) }
	l.Link = tunnel.New(ws, tunnel.RelaySide, o)
	return l
}

// verify decides about a claim whose keys are proved. silent are the links that the new one may replace although they are
// another process's: they were asked for a sign of life and gave none.
func (r *Registry) verify(ctx context.Context, c tunnel.Claim, token *entra.Identity, peer string) (w tunnel.Welcome, silent []*Link, err error) {
	switch c.Kind {
	case tunnel.KindJoin:
		w, err = r.join(ctx, c, peer)
		return w, nil, err
	case tunnel.KindRotate:
		w, err = r.rotate(ctx, c, peer)
		return w, nil, err
	case tunnel.KindCheck:
		w, err = r.check(ctx, c)
		return w, nil, err
	}
	if token == nil { // its own key says who the agent is
		if err := r.member(c); err != nil {
			return w, nil, err
		}
	}
	rivals := r.rivals(c)
	if len(rivals) > 0 && r.occupied(ctx, rivals) {
		r.cloneSeen(c, peer)
		tellClone(rivals, peer)
		return w, nil, &tunnel.Refusal{
			Code:       tunnel.RefusedClone,
			Reason:     "another process with this agent's key is connected: was the machine or its key copied? Let each machine join by itself",
			RetryAfter: time.Minute,
		}
	}
	return tunnel.Welcome{Agent: c.Agent}, rivals, nil
}

// tellClone lets the agent that is linked tell its own admin.
func tellClone(linked []*Link, peer string) {
	for _, l := range linked {
		_ = l.SendControl(ControlClone, Clone{Seen: time.Now().UTC(), Peer: peer}) // a link that ends needs no warning
	}
}

// cloneSeen puts a second process with an agent's key where admins see it: the log and the agent's status.
func (r *Registry) cloneSeen(c tunnel.Claim, peer string) {
	r.c.Log.Error("a second process uses an agent's key", "gateway", c.Gateway, "agent", c.Agent, "peer", peer)
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := (*r.sites.Load())[c.Gateway]; s != nil {
		s.clones[c.Agent] = Clone{Seen: time.Now().UTC(), Peer: peer}
	}
}

// member says why the claim is not one of a member of the gateway.
func (r *Registry) member(c tunnel.Claim) error {
	record, ok := r.records.Get(c.Gateway)
	if !ok {
		return refuse("unknown-gateway", "the relay knows no gateway of this name")
	}
	a := record.agent(c.Agent)
	switch {
	case a == nil:
		return unknownAgent()
	case !a.holds(c.Key, time.Now()) && a.held(c.Key):
		return keyReplaced()
	case !a.holds(c.Key, time.Now()):
		return unknownAgent()
	case !a.RefusedAt.IsZero():
		return refuse("refused", "an admin of the relay has refused this agent")
	case a.Revoked():
		return refuse("revoked", "an admin has revoked this agent")
	case a.Pending:
		return waiting()
	case outOfBounds(c):
		return refuse("bad-claim", "the link's slot or instance is out of bounds")
	}
	return nil
}

func outOfBounds(c tunnel.Claim) bool {
	return c.Slot < 0 || c.Slot >= maxSlots || c.Instance == "" || len(c.Instance) > 64
}

// join redeems a one-time code.
func (r *Registry) join(ctx context.Context, c tunnel.Claim, peer string) (tunnel.Welcome, error) {
	if !r.Exists(c.Gateway) {
		return tunnel.Welcome{}, refuse("unknown-gateway", "the relay knows no gateway of this name")
	}
	welcome := tunnel.Welcome{Agent: AgentID(c.Key)}
	err := r.records.Update(ctx, c.Gateway, func(record Record) (Record, error) {
		record, err := record.redeem(c.CodeKey, Agent{Key: c.Key, Name: c.Name, Peer: peer}, time.Now().UTC())
		if err == nil {
			welcome.Pending = record.agent(welcome.Agent).Pending
		}
		return record, err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = refuse("unknown-gateway", "the relay knows no gateway of this name")
	}
	if err != nil {
		return tunnel.Welcome{}, fmt.Errorf("join gateway %s: %w", label(c.Gateway), err)
	}
	return welcome, nil
}

// serve puts a link into use, and returns; Drain waits for its end.
func (r *Registry) serve(ctx context.Context, l *Link) {
	replaced, err := r.attach(l)
	if errors.Is(err, errClone) {
		r.cloneSeen(l.claim, l.peer)
		tellClone(r.rivals(l.claim), l.peer)
	}
	if err != nil {
		r.linkLog(l).Warn("link refused", "error", err)
		l.Close(err.Error())
		_ = l.Run(ctx) // it is closed: this only cleans up
		return
	}
	for _, old := range replaced {
		r.serving.Go(func() { r.retire(ctx, old, "a newer link has replaced this one") })
	}
	if record, ok := r.records.Get(l.Gateway); ok {
		if a := record.agent(l.Agent); a != nil {
			l.tellKeyReplaced(a)
		}
	}
	r.linkLog(l).Info("link up", "generation", l.claim.Generation, "version", label(l.claim.Version))
	// Not in net/http's goroutine: what that holds, with a stack that the handshakes have made large, would be the greater
	// part of an idle link. And nothing is done before Run that makes the new one's stack large.
	r.serving.Go(func() { r.runToEnd(ctx, l) })
}

// runToEnd runs a link that is in use.
func (r *Registry) runToEnd(ctx context.Context, l *Link) {
	defer r.detach(l)
	err := l.Run(ctx)
	cause := "closed by this relay"
	if err != nil {
		cause = err.Error()
	}
	r.linkLog(l).Info("link down", "after", time.Since(l.Since).Round(time.Second).String(), "cause", cause)
}

// linkLog is made when it is needed: a link would hold it for all its life.
func (r *Registry) linkLog(l *Link) *slog.Logger {
	return r.c.Log.With("gateway", l.Gateway, "agent", l.Agent, "slot", l.claim.Slot, "peer", l.peer)
}

// retire lets the streams of a link end that takes no new ones.
func (r *Registry) retire(ctx context.Context, old *Link, reason string) {
	ctx, cancel := context.WithTimeoutCause(ctx, replacedDrain, errors.New("the time for it is over"))
	defer cancel()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.retiring, old)
	}()
	if err := old.Drain(ctx, reason); err != nil {
		r.c.Log.Warn("streams of a link that was ended were cut off", "gateway", old.Gateway, "agent", old.Agent, "error", err)
	}
}

// control takes a control message of the agent's. It runs in the link's reader.
func (r *Registry) control(l *Link, kind string, body []byte) {
	switch kind {
	case ControlOffer:
	case tunnel.ControlProof:
		r.prove(l, body)
		return
	case ControlPolicy:
		r.notice(l, body)
		return
	case tunnel.ControlAuditHead:
		r.anchor(l, body)
		return
	default:
		return // of a newer version
	}
	o, err := parseOffer(body)
	if err != nil {
		r.c.Log.Warn("an agent's offer was refused, the previous one stays", "gateway", l.Gateway, "agent", l.Agent, "error", err)
		return
	}
	l.offer.Store(o)
	r.mu.Lock()
	r.tell()
	r.mu.Unlock()
	r.puller.want(l, o)
	r.c.Log.Info("agent offers", "gateway", l.Gateway, "agent", l.Agent, "slot", l.claim.Slot, "apis", len(o.APIs), "policy", o.Policy)
}
