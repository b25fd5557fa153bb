package manifest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/relay/admin"
	"sallyport/relay/connector"
)

// What a Step does.
const (
	AddGateway    = "add gateway"
	Publish       = "publish"
	Change        = "change"
	Unpublish     = "unpublish"
	RemoveGateway = "remove gateway"
)

// A Step is one change of a relay.
type Step struct {
	Action string `json:"action"`
	// On is the gateway, or GATEWAY/NAME of the connector.
	On string `json:"on"`
	// Changes are the settings that Change gives another value.
	Changes []connector.Difference `json:"changes,omitempty"`

	connector connector.Connector
}

// A Result is what a relay lacks of a file.
type Result struct {
	// Steps in the order in which they are to be done.
	Steps []Step `json:"steps"`
	// Extra is what the relay has beyond the file and keeps: gateways, and connectors as GATEWAY/NAME.
	Extra []string `json:"extra"`
}

// Plan compares a relay with a file. It changes nothing, but has the relay check all it can, so that what it would refuse is
// an error here. With prune, what is not in the file is removed.
func Plan(ctx context.Context, c *admin.Client, f File, prune bool) (Result, error) {
	gateways, err := c.Gateways(ctx)
	if err != nil {
		return Result{}, err
	}
	published, err := c.Connectors(ctx)
	if err != nil {
		return Result{}, err
	}
	p := planner{client: c, gateways: map[string]bool{}, connectors: map[string]bool{}, wanted: map[string]bool{}}
	for _, g := range gateways {
		p.gateways[g.Name] = true
	}
	for _, x := range published {
		p.connectors[path(x.Connector)] = true
	}
	for _, g := range f.Gateways {
		if err := p.gateway(ctx, g); err != nil {
			return Result{}, err
		}
	}
	return p.result(prune), nil
}

func path(c connector.Connector) string { return c.Gateway + "/" + c.Name }

type planner struct {
	client               *admin.Client
	gateways, connectors map[string]bool // what the relay has
	wanted               map[string]bool // what the file has, of both

	added, changed, publish []Step
}

func (p *planner) gateway(ctx context.Context, g Gateway) error {
	p.wanted[g.Name] = true
	if !p.gateways[g.Name] {
		p.added = append(p.added, Step{Action: AddGateway, On: g.Name})
	}
	for _, c := range g.Connectors {
		settings := c.settings(g.Name)
		on := path(settings)
		p.wanted[on] = true
		switch {
		case p.connectors[on]:
			outcome, err := p.client.PlanChange(ctx, settings)
			if err != nil {
				return fmt.Errorf("%s: %w", on, err)
			}
			if len(outcome.Changes) > 0 {
				p.changed = append(p.changed, Step{Action: Change, On: on, Changes: outcome.Changes, connector: settings})
			}
		default:
			// A connector of a gateway that is yet to be made was checked by Load.
			if p.gateways[g.Name] {
				if _, err := p.client.PlanPublish(ctx, settings); err != nil {
					return fmt.Errorf("%s: %w", on, err)
				}
			}
			p.publish = append(p.publish, Step{Action: Publish, On: on, connector: settings})
		}
	}
	return nil
}

// result orders the steps: a change can free a host name for a connector that is published after it. What is removed is
// removed last, connectors before their gateways.
func (p *planner) result(prune bool) Result {
	r := Result{Steps: slices.Concat(p.added, p.changed, p.publish), Extra: []string{}}
	var unpublish, remove []Step
	for on := range p.connectors {
		if gw, name, _ := strings.Cut(on, "/"); !p.wanted[on] {
			unpublish = append(unpublish, Step{Action: Unpublish, On: on, connector: connector.Connector{Gateway: gw, Name: name}})
		}
	}
	for name := range p.gateways {
		if !p.wanted[name] {
			remove = append(remove, Step{Action: RemoveGateway, On: name})
		}
	}
	byName := func(x, y Step) int { return strings.Compare(x.On, y.On) }
	slices.SortFunc(unpublish, byName)
	slices.SortFunc(remove, byName)
	if extra := slices.Concat(unpublish, remove); prune {
		r.Steps = append(r.Steps, extra...)
	} else {
		for _, s := range extra {
			r.Extra = append(r.Extra, s.On)
		}
	}
	return r
}

// Do makes the change. The join code that comes with a new gateway is of no use to anybody: it has expired when the answer is
// here, and 'gateway join' makes one when an agent is at hand.
func (s Step) Do(ctx context.Context, c *admin.Client) (err error) {
	switch s.Action {
	case AddGateway:
		_, err = c.AddGateway(ctx, s.On, admin.NewJoin{Expires: time.Nanosecond})
	case Publish:
		_, err = c.Publish(ctx, s.connector)
	case Change:
		_, err = c.Change(ctx, s.connector)
	case Unpublish:
		err = c.Unpublish(ctx, s.connector.Gateway, s.connector.Name)
	case RemoveGateway:
		err = c.RemoveGateway(ctx, s.On)
	default:
		err = fmt.Errorf("unknown action %q", s.Action)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", s.Action, s.On, err)
	}
	return nil
}
