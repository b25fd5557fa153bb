package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sallyport/relay/connector"
	"sallyport/relay/definition"
	"sallyport/relay/store"
)

// The formats of a link to a connector's definition, and the names of their files.
const (
	sharePower   = "power-platform"
	sharePostman = "postman"
	shareOpenAPI = "openapi3"
)

// shareLink makes the URL at which a definition can be had without a credential. It makes the file once, so that a link
// which is given out works.
func (r *Relay) shareLink(ctx context.Context, pub *connector.Published, s connector.Share) (string, error) {
	file := pub.Name + map[string]string{sharePower: ".swagger.json", sharePostman: ".postman_collection.json", shareOpenAPI: ".openapi.json"}[s.Format]
	if file == pub.Name {
		return "", invalidShare("format %.40q is not one of %s, %s, %s", s.Format, sharePower, sharePostman, shareOpenAPI)
	}
	t, err := r.shareTarget(pub, s)
	if err != nil {
		return "", err
	}
	if lost := t.LostByURL(); len(lost) > 0 && s.Format == sharePower {
		return "", invalidShare("an import from a URL brings no apiProperties.json, and this connector would lose %s; use 'connector export' and paconn or pac",
			strings.Join(lost, "; "))
	}
	if _, err := r.shared(ctx, pub, s); err != nil {
		return "", invalidShare("%v", err)
	}
	return t.URL + s.Path(r.operations, pub.ID, file), nil
}

func invalidShare(format string, args ...any) error {
	return &connector.Invalid{Problems: []string{fmt.Sprintf(format, args...)}}
}

// shareTarget says how the connector is published.
func (r *Relay) shareTarget(pub *connector.Published, s connector.Share) (definition.Target, error) {
	t := definition.Target{
		URL: r.URL() + "/" + pub.Gateway + "/" + pub.Name, Gateway: pub.Gateway, Name: pub.Name, KeepIDs: s.KeepIDs,
		Ping: definition.PingPath, Deferred: pub.Async.After > 0, Hooks: len(pub.Webhooks) > 0,
	}
	if len(pub.Hosts) > 0 {
		scheme, _, _ := strings.Cut(r.URL(), "://")
		t.URL = scheme + "://" + pub.Hosts[0]
	}
	for _, way := range pub.Auth {
		switch {
		case way == connector.AuthNone:
		case way == connector.AuthKey:
			a := definition.Auth{Kind: definition.AuthKey, Header: pub.KeyHeader}
			if pub.KeyHeader == "" {
				a.Query = pub.KeyQuery
			}
			t.Auth = append(t.Auth, a)
		case slices.Contains([]string{connector.AuthBasic, "windows"}, way):
			t.Auth = append(t.Auth, definition.Auth{Kind: definition.AuthBasic, Windows: way != connector.AuthBasic})
		default:
			return t, invalidShare("a link cannot say how callers sign on with %s; use 'connector export' and paconn or pac", way)
		}
	}
	return t, nil
}

// shared makes what a link gives out, of the definition that the agent has sent last.
func (r *Relay) shared(ctx context.Context, pub *connector.Published, s connector.Share) ([]byte, error) {
	t, err := r.shareTarget(pub, s)
	if err != nil {
		return nil, err
	}
	d, err := r.store.Definitions().Get(ctx, pub.Gateway, pub.API)
	if errors.Is(err, store.ErrNotFound) {
		return nil, connector.NewProblem("no-operation", "No agent has sent a definition of this API.")
	}
	if err != nil {
		return nil, err
	}
	doc, err := definition.Parse(d.Body)
	if err != nil {
		return nil, fmt.Errorf("read the definition: %w", err)
	}
	switch s.Format {
	case sharePostman:
		body, _, err := definition.Postman(doc, t)
		return body, err
	case shareOpenAPI:
		body, _, err := definition.OpenAPI3(doc, t)
		return body, err
	}
	f, err := definition.PowerPlatform(doc, t)
	if err != nil {
		return nil, err
	}
	return f.Definition, nil
}
