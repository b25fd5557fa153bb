package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sallyport/agent"
	"sallyport/agent/link"
	"sallyport/tunnel"
)

const rejoin = "ask the relay's admin for a new join string, then: sallyport-agent join --replace"

// member asks the relay how it stands to this agent: whether its key may link, and whether the running agent answers over its
// links: from here to the relay, through a link to the agent, and back.
func (p *patient) member(ctx context.Context, d *link.Dialer) []Finding {
	f := Finding{ID: "relay.member", Tried: "prove the agent's key to the relay, and ask how it stands to the agent"}
	switch {
	case p.config.Identity.Entra != nil:
		return []Finding{f.skip("the agent signs on with tokens of Microsoft Entra ID, and none was asked for; its links tell")}
	case p.id == nil || !p.id.Joined:
		return []Finding{f.skip("not joined yet")}
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	who, err := p.id.Claim(ctx)
	if err != nil {
		return []Finding{f.is(Fail, err.Error(), mendIdentity(err))}
	}
	who.Claim.Version = p.o.Version
	welcome, err := link.Check(ctx, d, who, p.id.RelayKey)
	refusal, refused := errors.AsType[*tunnel.Refusal](err)
	switch {
	case errors.Is(err, link.ErrCannotCheck):
		return []Finding{f.skip(err.Error())}
	case refused && refusal.Code == tunnel.RefusedPending:
		return []Finding{f.is(Warn, "it waits for approval by an admin of the relay", "there: sallyport-relay agent approve "+p.id.Agent)}
	case refused:
		return []Finding{f.is(Fail, refusal.Error(), mendRefusal(refusal))}
	case err != nil:
		return []Finding{f.failed(err, "see the relay's log")}
	}
	return []Finding{f.ok("the relay has its pinned key, and knows agent %s of gateway %s", welcome.Agent, p.id.Gateway), p.echo(welcome.Echoes)}
}

func mendRefusal(r *tunnel.Refusal) string {
	switch r.Code {
	case tunnel.RefusedKeyReplaced:
		return "restore the newer identity.json, if this machine came from a backup; else have the agent revoked, and " + rejoin
	case "revoked", "refused", "unknown-agent", "unknown-gateway":
		return rejoin
	}
	return "the relay's log says more"
}

// echo judges what came back over the running agent's links.
func (p *patient) echo(list []tunnel.Echo) Finding {
	f := Finding{ID: "relay.echo", Tried: "have the relay call the running agent over its links"}
	var said []string
	silent := 0
	for _, e := range list {
		if !e.Answered {
			silent++
			said = append(said, fmt.Sprintf("link %d does not answer", e.Slot))
			continue
		}
		said = append(said, fmt.Sprintf("link %d answers, round trip %.1f ms", e.Slot, e.Millis))
	}
	text := strings.Join(said, "; ")
	const cut = "the agent stands still, or something on the way holds back what a link carries: sallyport-agent service restart makes new links; if it comes again, have the relay exempted from inspection"
	switch {
	case len(list) == 0 && p.linksUp() > 0:
		return f.is(Fail, fmt.Sprintf("the relay has no link of this agent, whose status says that %d are up", p.linksUp()),
			"is the agent that runs here the one with this state directory? If it is: sallyport-agent service restart")
	case len(list) == 0:
		return f.skip("the relay has no link of this agent")
	case silent == len(list):
		return f.is(Fail, text, cut)
	case silent > 0:
		return f.is(Warn, text, cut)
	}
	return f.ok("%s", text)
}

// linksUp is how many links the running agent says it has.
func (p *patient) linksUp() (up int) {
	s, err := agent.ReadStatus(*p.dir)
	if err != nil || !s.Running {
		return 0
	}
	for _, l := range s.Links {
		if l.State == link.StateUp {
			up++
		}
	}
	return up
}
