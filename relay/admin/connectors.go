package admin

import (
	"errors"
	"net/http"
	"strings"

	"sallyport/relay/connector"
	"sallyport/relay/gateway"
	"sallyport/relay/store"
)

func (a *Admin) listConnectors(q *http.Request) (int, any, error) {
	list := a.c.Connectors.List()
	definitions, err := a.c.Store.Definitions().List(q.Context())
	if err != nil {
		return 0, nil, err
	}
	exported, err := a.c.Store.Definitions().ListExported(q.Context())
	if err != nil {
		return 0, nil, err
	}
	known, had := byAPI(definitions), byAPI(exported)
	out := make([]Published, 0, len(list))
	for _, c := range list {
		p := a.published(c)
		p.Definition, p.Exported = known[[2]string{c.Gateway, c.API}], had[[2]string{c.Gateway, c.API}]
		out = append(out, p)
	}
	return http.StatusOK, List[Published]{out}, nil
}

func byAPI(list []store.DefinitionInfo) map[[2]string]*store.DefinitionInfo {
	out := make(map[[2]string]*store.DefinitionInfo, len(list))
	for i, d := range list {
		out[[2]string{d.Gateway, d.API}] = &list[i]
	}
	return out
}

// published adds the URLs and whether the API is there.
func (a *Admin) published(c connector.Connector) Published {
	p := Published{Connector: c, URL: a.c.URL + "/" + c.Gateway + "/" + c.Name}
	scheme, _, _ := strings.Cut(a.c.URL, "://")
	for _, h := range c.Hosts {
		p.HostURLs = append(p.HostURLs, scheme+"://"+h)
	}
	if _, err := a.c.Gateways.Pick(c.Gateway, c.API); err != nil {
		p.Unavailable = err.Error()
	}
	return p
}

func (a *Admin) publish(q *http.Request) (int, any, error) {
	var body connector.Connector
	if err := read(q, &body); err != nil {
		return 0, nil, err
	}
	if err := mayPublish(q.Context(), body.Gateway); err != nil {
		return 0, nil, err
	}
	if !a.c.Gateways.Exists(body.Gateway) {
		return 0, nil, gateway.ErrUnknownGateway
	}
	if err := a.notOurHost(body.Hosts); err != nil {
		return 0, nil, err
	}
	if dryRun(q) {
		c, err := a.c.Connectors.PlanPublish(body)
		return http.StatusOK, a.outcome(q, ActionPublished, c, nil), err
	}
	c, err := a.c.Connectors.Publish(q.Context(), body)
	if err != nil {
		return 0, nil, err
	}
	a.event(q, "connector published", "gateway", c.Gateway, "connector", c.Name, "auth", c.Auth)
	return http.StatusCreated, a.outcome(q, ActionPublished, c, nil), nil
}

func (a *Admin) change(q *http.Request) (int, any, error) {
	var body connector.Connector
	if err := read(q, &body); err != nil {
		return 0, nil, err
	}
	body.Gateway, body.Name = q.PathValue("gateway"), q.PathValue("name")
	if err := a.notOurHost(body.Hosts); err != nil {
		return 0, nil, err
	}
	if dryRun(q) {
		before, after, err := a.c.Connectors.PlanChange(body)
		return http.StatusOK, a.changed(q, before, after), err
	}
	before, after, err := a.c.Connectors.Change(q.Context(), body)
	if err != nil {
		return 0, nil, err
	}
	out := a.changed(q, before, after)
	a.event(q, "connector changed", "gateway", after.Gateway, "connector", after.Name, "auth", after.Auth, "changes", out.Changes)
	return http.StatusOK, out, nil
}

// notOurHost keeps connectors off the host of the admin API: a page from inside must not share an origin with it.
func (a *Admin) notOurHost(hosts []string) error {
	for _, h := range hosts {
		if a.c.Host != "" && strings.EqualFold(strings.TrimSuffix(h, "."), a.c.Host) {
			return &badRequest{"host " + h + " is the admin API's, which never serves a connector"}
		}
	}
	return nil
}

// dryRun says that the request is to change nothing.
func dryRun(q *http.Request) bool { return q.URL.Query().Get("dryRun") == "true" }

func (a *Admin) changed(q *http.Request, before, after connector.Connector) Outcome {
	differences := after.Differences(&before)
	if len(differences) == 0 {
		return a.outcome(q, ActionUnchanged, after, differences)
	}
	return a.outcome(q, ActionChanged, after, differences)
}

func (a *Admin) outcome(q *http.Request, action string, c connector.Connector, changes []connector.Difference) Outcome {
	return Outcome{
		Published: a.published(c), Action: action, DryRun: dryRun(q), Changes: append([]connector.Difference{}, changes...),
	}
}

func (a *Admin) unpublish(q *http.Request) (int, any, error) {
	gw, name := q.PathValue("gateway"), q.PathValue("name")
	if err := a.c.Connectors.Unpublish(q.Context(), gw, name); err != nil {
		return 0, nil, err
	}
	a.event(q, "connector unpublished", "gateway", gw, "connector", name)
	return http.StatusNoContent, nil, nil
}

// definition gives out what the agent sent about a connector's API.
func (a *Admin) definition(q *http.Request) (int, any, error) {
	gw, name := q.PathValue("gateway"), q.PathValue("name")
	pub, err := a.c.Connectors.Find(gw, name)
	if err != nil {
		return 0, nil, err
	}
	d, err := a.c.Store.Definitions().Get(q.Context(), gw, pub.API)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil, &noDefinition{gw, pub.API}
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, Definition{Gateway: gw, API: pub.API, Digest: d.Digest, Body: d.Body}, nil
}

// noDefinition says that there is none, and what helps.
type noDefinition struct{ gateway, api string }

func (e *noDefinition) Error() string {
	return "no agent of gateway " + e.gateway + " has sent a definition of the API " + e.api +
		"; set 'definition' at the API in agent.yaml, or give a file with --definition"
}
