package gateway_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/relay/gateway"
	"sallyport/relay/store"
	"sallyport/tunnel"
)

// What is known of a removed gateway's APIs is not left to another gateway of its name.
func TestDefinitionsGoWithTheGateway(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	definitions := g.st.Definitions()
	put := func() {
		t.Helper()
		body := []byte(`{"swagger":"2.0"}`)
		err := definitions.Put(t.Context(), "plant1", "orders", store.Definition{Digest: store.DigestOf(body), Body: body, At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
	}
	gone := func(when string) {
		t.Helper()
		if _, err := definitions.Get(t.Context(), "plant1", "orders"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", when, err)
		}
	}
	add := func() error { _, err := g.r.AddGateway(t.Context(), "plant1", gateway.CodeUse{}); return err }

	if err := add(); err != nil {
		t.Fatal(err)
	}
	put()
	if err := add(); err == nil {
		t.Error("a second gateway of the same name")
	}
	if _, err := definitions.Get(t.Context(), "plant1", "orders"); err != nil {
		t.Errorf("after a refused addition: %v", err)
	}
	if err := g.r.RemoveGateway(t.Context(), "plant1"); err != nil {
		t.Fatal(err)
	}
	gone("removed")
	put() // one that was still on its way
	if err := add(); err != nil {
		t.Fatal(err)
	}
	gone("added anew")
}

// A source is what an agent answers to the question for its definition.
type source struct {
	status int
	body   []byte // as it is sent
	asked  atomic.Int32
}

func (s *source) serve(st *tunnel.Stream) {
	s.asked.Add(1)
	if st.Request().API != "" || !strings.HasPrefix(st.Request().Target, "/definitions/orders/sha256:") {
		st.Reset(tunnel.Refused, "not the question that was expected")
		return
	}
	_ = st.SendResponse(&tunnel.Response{Status: s.status, Header: http.Header{}, ContentLength: -1}, false)
	_, _ = st.Write(s.body)
	_ = st.CloseWrite(nil)
}

func packed(body string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(body))
	_ = w.Close()
	return b.Bytes()
}

func offerDefinition(t *testing.T, l *tunnel.Link, digest string) {
	t.Helper()
	o := gateway.Offer{APIs: []gateway.OfferedAPI{{Name: "orders", Definition: digest}}}
	if err := l.SendControl(gateway.ControlOffer, o); err != nil {
		t.Fatal(err)
	}
}

func TestDefinitionsAreTakenOver(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.r.PullEvery(20 * time.Millisecond)
	src := &source{status: 200}
	g.serve = src.serve
	l := g.mustLink("plant1", g.joined("plant1"), at{instance: "a"})
	stored := func() string {
		d, err := g.st.Definitions().Get(t.Context(), "plant1", "orders")
		if errors.Is(err, store.ErrNotFound) {
			return ""
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(d.Body)
	}
	first := `{"openapi":"3.0.0","paths":{}}`
	src.body = packed(first)
	offerDefinition(t, l, store.DigestOf([]byte(first)))
	eventually(t, "the definition is there", func() bool { return stored() == first })

	// One that is there is not asked for again, and an agent that says nothing of it changes nothing.
	asked := src.asked.Load()
	offerDefinition(t, l, store.DigestOf([]byte(first)))
	offerDefinition(t, l, "")
	offerDefinition(t, l, "md5:of a newer version")
	offer(t, l, "orders", "marker")
	eventually(t, "the offers have come", func() bool { _, err := g.r.Pick("plant1", "marker"); return err == nil })
	if src.asked.Load() != asked || stored() != first {
		t.Errorf("asked %d times more; kept is %s", src.asked.Load()-asked, stored())
	}

	offerDefinition(t, l, "none")
	eventually(t, "it is forgotten", func() bool { return stored() == "" })
}

// An agent that lies changes nothing, and is not asked for ever.
func TestBadDefinitionsAreRefused(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]struct {
		status  int
		body    []byte
		offered string
	}{
		"another one":  {200, packed(`{"a":1}`), `{"a":2}`},
		"not packed":   {200, []byte(`{"a":1}`), `{"a":1}`},
		"cut short":    {200, packed(`{"a":1}`)[:12], `{"a":1}`},
		"no JSON":      {200, packed(`hello`), `hello`},
		"too large":    {200, packed(strings.Repeat(" ", store.MaxDefinition+1)), strings.Repeat(" ", store.MaxDefinition+1)},
		"an old agent": {404, nil, `{"a":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t)
			g.r.PullEvery(10 * time.Millisecond)
			src := &source{status: lie.status, body: lie.body}
			g.serve = src.serve
			l := g.mustLink("plant1", g.joined("plant1"), at{instance: "a"})
			offerDefinition(t, l, store.DigestOf([]byte(lie.offered)))
			eventually(t, "it has failed five times", func() bool { return len(g.lines("the one before stays")) >= 5 })
			time.Sleep(60 * time.Millisecond) // for a sixth time, which must not come
			if n := src.asked.Load(); n != 5 {
				t.Errorf("asked %d times", n)
			}
			if list, err := g.st.Definitions().List(t.Context()); err != nil || len(list) != 0 {
				t.Errorf("kept: %+v %v", list, err)
			}
		})
	}
}
