// Package manifest is what a relay publishes as one reviewed file: its gateways and their connectors with all settings.
// Export makes the file of a running relay, Load reads one strictly, and Plan says what a relay lacks of it.
//
// Agents, keys and secrets are not part of it: agents join and keys are made on the relay, and neither belongs into a
// repository. What is not in the file stays, unless it is to be pruned.
//
//	f, err := manifest.Load("relay.publish.yaml", text)
//	steps, err := manifest.Plan(ctx, client, f, false)  // changes nothing; every setting is checked by the relay
//	for _, s := range steps { err = s.Do(ctx, client) }
package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/configs"
	"sallyport/internal/bearer"
	"sallyport/relay/connector"
	"sallyport/relay/gateway"
)

// File is what 'sallyport-relay apply' reads and 'export' writes.
type File struct {
	// Gateways are the places that agents answer for.
	Gateways []Gateway `yaml:"gateways"`
}

// Gateway is a gateway with what is published of it.
type Gateway struct {
	// Name is the gateway's name.
	Name string `yaml:"name,required"`
	// Connectors are the APIs that are published.
	Connectors []Connector `yaml:"connectors"`
}

// Connector is one published API. What is left out has its default.
type Connector struct {
	// Name is the connector's name in the URL.
	Name string `yaml:"name,required"`
	// API is the name under which agents offer it. Default: the connector's name.
	API string `yaml:"api"`
	// Auth lists the ways to call: key, oauth2, basic, joined ones such as key+oauth2, or none.
	Auth []string `yaml:"auth,required"`
	// Header carries the key. Default: X-API-Key.
	Header string `yaml:"header"`
	// Query is a query parameter that may carry the key too.
	Query string `yaml:"query"`
	// From are networks (203.0.113.0/24) or addresses from which alone the connector may be called.
	From []string `yaml:"from"`
	// PasswordAlone set to true admits callers with windows and nothing else: anybody who knows the URL can try passwords.
	PasswordAlone bool `yaml:"password_alone"`
	// OAuth2 says which access tokens count. Needed with oauth2.
	OAuth2 *OAuth2 `yaml:"oauth2"`
	// Hosts are host names of the connector's own.
	Hosts []string `yaml:"hosts"`
	// CORSOrigins are the origins whose pages may call, or "*".
	CORSOrigins []string `yaml:"cors_origins"`
	// BodyLimit is the largest request body. Default: the relay's.
	BodyLimit configs.Size `yaml:"body_limit"`
	// Timeout is how long the relay waits for an answer. Default: the relay's.
	Timeout time.Duration `yaml:"timeout"`
	// Rate is how many calls may begin: "100/m", or with s or h. Default: no bound of its own.
	Rate string `yaml:"rate"`
	// Concurrent is how many calls may be under way. Default: the relay's bound for each connector.
	Concurrent int `yaml:"concurrent"`
	// OutcomeUnknown is the answer to calls that may have been run. Default: auto.
	OutcomeUnknown string `yaml:"outcome_unknown" enum:"auto,409,504"`
	// AsyncAfter is how long a caller is held before its call is answered 202. Default: callers that prefer it alone are.
	AsyncAfter time.Duration `yaml:"async_after"`
	// AsyncLimit is how long such a call may go on. Default: 1h.
	AsyncLimit time.Duration `yaml:"async_limit"`
	// Async set to off defers no call, not even of callers that prefer it.
	Async string `yaml:"async" enum:"off"`
	// Dedupe is what repeated calls are known by, so that they run once. Default: nothing.
	Dedupe string `yaml:"dedupe" enum:"idempotency-key,flow"`
	// DedupeFor are the operations that are deduplicated, such as "POST /orders". Default: POST and PATCH.
	DedupeFor []string `yaml:"dedupe_for"`
	// Webhooks are the operations that subscribe to a webhook, such as "POST /hooks".
	Webhooks []string `yaml:"webhooks"`
}

// OAuth2 is whose access tokens count, and which.
type OAuth2 struct {
	// Issuer is the URL of the tokens' issuer, exactly as they have it.
	Issuer string `yaml:"issuer"`
	// EntraTenant is the GUID of a Microsoft Entra ID tenant, in place of issuer.
	EntraTenant string `yaml:"entra_tenant"`
	// Authority is the sign-on address of another cloud of Microsoft's. Default: https://login.microsoftonline.com.
	Authority string `yaml:"authority"`
	// Audience are the API's names at the issuer.
	Audience []string `yaml:"audience"`
	// AllowClients are the applications that may call. Default: any.
	AllowClients []string `yaml:"allow_clients"`
	// Scopes are needed all.
	Scopes []string `yaml:"scopes"`
	// Roles of which one is needed. With scopes too, persons need the scopes, applications by themselves a role.
	Roles []string `yaml:"roles"`
	// Claims that are needed, such as "department=sales".
	Claims []string `yaml:"claims"`
	// Callers are admitted: app (applications by themselves) or user (persons). Default: both.
	Callers string `yaml:"callers" enum:"app,user"`
	// Guests admits guests of the tenant too.
	Guests bool `yaml:"guests"`
	// Leeway is by how much clocks may differ. Default: 1m.
	Leeway time.Duration `yaml:"leeway"`
	// Algorithms may sign. Default: all with public keys, of Entra RS256.
	Algorithms []string `yaml:"algorithms"`
}

func (o *OAuth2) rule() bearer.Rule {
	if o == nil {
		return bearer.Rule{}
	}
	return bearer.Rule{
		Issuer: o.Issuer, Tenant: o.EntraTenant, Authority: o.Authority, Audience: o.Audience, Clients: o.AllowClients,
		Scopes: o.Scopes, Roles: o.Roles, Claims: o.Claims, Callers: o.Callers, Guests: o.Guests, Leeway: o.Leeway, Algorithms: o.Algorithms,
	}
}

// oauth2 is the other way; nil for no rule.
func oauth2(r bearer.Rule) *OAuth2 {
	if !r.Set() {
		return nil
	}
	return &OAuth2{
		Issuer: r.Issuer, EntraTenant: r.Tenant, Authority: r.Authority, Audience: r.Audience, AllowClients: r.Clients,
		Scopes: r.Scopes, Roles: r.Roles, Claims: r.Claims, Callers: r.Callers, Guests: r.Guests, Leeway: r.Leeway, Algorithms: r.Algorithms,
	}
}

// settings of a connector as the relay has them.
func (c Connector) settings(gw string) connector.Connector {
	api := c.API
	if api == "" {
		api = c.Name
	}
	rate, _ := connector.ParseRate(c.Rate)     // check has read it
	from, _ := connector.ParseNetworks(c.From) // and this
	return connector.Connector{
		Gateway: gw, Name: c.Name, API: api, Auth: c.Auth, KeyHeader: c.Header, KeyQuery: c.Query, From: from, PasswordAlone: c.PasswordAlone, OAuth2: c.OAuth2.rule(), Hosts: c.Hosts,
		CORSOrigins: c.CORSOrigins, BodyLimit: int64(c.BodyLimit), Timeout: c.Timeout, OutcomeUnknown: c.OutcomeUnknown,
		Async:    connector.Async{After: c.AsyncAfter, Limit: c.AsyncLimit, Off: c.Async == asyncOff},
		Dedupe:   connector.Dedupe{By: c.Dedupe, For: c.DedupeFor},
		Webhooks: c.Webhooks, Rate: rate, Concurrent: c.Concurrent,
	}
}

const asyncOff = "off"

// entry is the other way; defaults are left out.
func entry(c connector.Connector) Connector {
	out := Connector{
		Name: c.Name, API: c.API, Auth: c.Auth, Header: c.KeyHeader, Query: c.KeyQuery, From: connector.Networks(c.From), PasswordAlone: c.PasswordAlone, OAuth2: oauth2(c.OAuth2), Hosts: c.Hosts, CORSOrigins: c.CORSOrigins,
		BodyLimit: configs.Size(c.BodyLimit), Timeout: c.Timeout, OutcomeUnknown: c.OutcomeUnknown,
		AsyncAfter: c.Async.After, AsyncLimit: c.Async.Limit, Dedupe: c.Dedupe.By, DedupeFor: c.Dedupe.For, Webhooks: c.Webhooks,
		Rate: c.Rate.String(), Concurrent: c.Concurrent,
	}
	if c.Async.Off {
		out.Async = asyncOff
	}
	if out.API == out.Name {
		out.API = ""
	}
	if out.OutcomeUnknown == connector.OutcomeAuto {
		out.OutcomeUnknown = ""
	}
	return out
}

// Load reads a file; see package configs for how strictly. name is what errors call it.
func Load(name string, text []byte) (File, error) {
	var f File
	err := configs.Load(name, text, &f, f.check)
	return f, err
}

func (f *File) check(d *configs.Doc) {
	gateways := map[string]bool{}
	hosts := map[string]string{}
	for i, g := range f.Gateways {
		place := fmt.Sprintf("gateways[%d]", i)
		if err := gateway.CheckName(g.Name); err != nil {
			d.Errorf(place+".name", "%v", err)
		}
		if gateways[g.Name] {
			d.Errorf(place+".name", "the gateway %s stands here a second time (put its connectors together)", g.Name)
		}
		gateways[g.Name] = true
		connectors := map[string]bool{}
		for j, c := range g.Connectors {
			place := fmt.Sprintf("%s.connectors[%d]", place, j)
			if connectors[c.Name] {
				d.Errorf(place+".name", "the connector %s/%s stands here a second time (remove one)", g.Name, c.Name)
			}
			connectors[c.Name] = true
			if _, err := connector.ParseRate(c.Rate); err != nil {
				d.Errorf(place+".rate", "%v", err)
			}
			if _, err := connector.ParseNetworks(c.From); err != nil {
				d.Errorf(place+".from", "%v", err)
			}
			if bad, ok := errors.AsType[*connector.Invalid](connector.Check(c.settings(g.Name))); ok {
				for _, problem := range bad.Problems {
					d.Errorf(place, "%s", problem)
				}
			}
			for k, h := range c.Hosts {
				h = strings.ToLower(strings.TrimSpace(h))
				if other := hosts[h]; other != "" {
					d.Errorf(fmt.Sprintf("%s.hosts[%d]", place, k), "host %s belongs to %s (a host name serves one connector)", h, other)
				}
				hosts[h] = g.Name + "/" + c.Name
			}
		}
	}
}

// Of makes the file of what a relay has, in the order of names.
func Of(gateways []string, connectors []connector.Connector) File {
	names := slices.Sorted(slices.Values(gateways))
	f := File{Gateways: make([]Gateway, 0, len(names))}
	for _, name := range names {
		g := Gateway{Name: name}
		for _, c := range connectors {
			if c.Gateway == name {
				g.Connectors = append(g.Connectors, entry(c))
			}
		}
		slices.SortFunc(g.Connectors, func(x, y Connector) int { return strings.Compare(x.Name, y.Name) })
		f.Gateways = append(f.Gateways, g)
	}
	return f
}
