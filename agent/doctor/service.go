package doctor

import (
	"cmp"
	"context"

	"sallyport/internal/service"
)

// service is what the machine says of the agent's service: whether it runs, and why not. Nobody need have made it one.
func (p *patient) service(ctx context.Context) (f Finding, there bool) {
	f = Finding{ID: "service", Tried: "what the machine says of the service"}
	if p.o.Service == nil {
		return f, false
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	s, err := p.o.Service(ctx)
	if err != nil {
		return f.skip(err.Error()), true
	}
	return judgeService(f, s, p.whole), true
}

// judgeService needs to know whether there is a configuration that it could be started with.
func judgeService(f Finding, s service.Status, configured bool) Finding {
	start := "start it: sallyport-agent service start"
	if !configured {
		start = "give it an agent.yaml that is right ('sallyport-agent join' writes a first one), then " + start
	}
	switch {
	case !s.Installed:
		return f.skip("there is none; where nothing else runs the agent, 'sallyport-agent service install' makes it one")
	case s.State == service.Failed:
		return f.is(Fail, "it has failed: "+cmp.Or(s.Detail, "the machine does not say why"), "mend that; then "+start)
	case s.State == service.Stopped:
		return f.is(Warn, cmp.Or(s.Detail, "it is stopped"), start)
	case !s.Automatic:
		return f.is(Warn, "it is "+s.State+", and does not start with the machine", "sallyport-agent service install")
	}
	return f.ok("it is %s as %s, and starts with the machine", s.State, s.Account)
}
