package admin

import (
	"errors"
	"fmt"
	"net/http"

	"sallyport/relay/definition"
	"sallyport/relay/store"
)

// changes compares what the agent has sent last with what makers have.
func (a *Admin) changes(q *http.Request) (int, any, error) {
	gw, name := q.PathValue("gateway"), q.PathValue("name")
	pub, err := a.c.Connectors.Find(gw, name)
	if err != nil {
		return 0, nil, err
	}
	out := Changes{Changes: []definition.Change{}}
	before, err := a.c.Store.Definitions().GetExported(q.Context(), gw, pub.API)
	if errors.Is(err, store.ErrNotFound) {
		return http.StatusOK, out, nil
	}
	if err != nil {
		return 0, nil, err
	}
	out.Known = true
	after, err := a.c.Store.Definitions().Get(q.Context(), gw, pub.API)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil, &noDefinition{gw, pub.API}
	}
	if err != nil || before.Digest == after.Digest {
		return http.StatusOK, out, err
	}
	if out.Changes, err = compare(before.Body, after.Body); err != nil {
		return 0, nil, err
	}
	for _, c := range out.Changes {
		if c.Breaking {
			out.Breaking++
		}
	}
	return http.StatusOK, out, nil
}

func compare(before, after []byte) ([]definition.Change, error) {
	var docs [2]*definition.Document
	for i, body := range [][]byte{before, after} {
		doc, err := definition.Parse(body)
		if err != nil {
			return nil, fmt.Errorf("read a definition that an agent has sent: %w", err)
		}
		docs[i] = doc
	}
	changes, err := definition.Compare(docs[0], docs[1])
	return append([]definition.Change{}, changes...), err
}

// exported notes that makers have a definition.
func (a *Admin) exported(q *http.Request) (int, any, error) {
	var body Exported
	if err := read(q, &body); err != nil {
		return 0, nil, err
	}
	gw, name := q.PathValue("gateway"), q.PathValue("name")
	pub, err := a.c.Connectors.Find(gw, name)
	if err != nil {
		return 0, nil, err
	}
	if err := a.c.Store.Definitions().Exported(q.Context(), gw, pub.API, body.Digest); err != nil {
		return 0, nil, err
	}
	a.event(q, "definition exported", "gateway", gw, "connector", name, "digest", body.Digest)
	return http.StatusNoContent, nil, nil
}
