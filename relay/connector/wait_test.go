package connector_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"sallyport/relay/connector"
	"sallyport/relay/gateway"
	"sallyport/tunnel"
)

// late gives links after a while, as a registry does whose agent restarts.
type late struct {
	connector.Links
	by time.Duration
}

func (l late) PickSoon(ctx context.Context, gw, api string, exclude ...*gateway.Link) (*gateway.Link, error) {
	time.Sleep(l.by)
	return l.Links.PickSoon(ctx, gw, api, exclude...)
}

// TestWaitsAreNoted: a call that waited for an agent says so, and one that did not says nothing.
func TestWaitsAreNoted(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{0, 60 * time.Millisecond} {
		r := start(t, func(s *tunnel.Stream) { _ = s.SendResponse(&tunnel.Response{Status: http.StatusNoContent}, true) }, settings{
			options: func(o *connector.Options) { o.Links = late{o.Links, by} },
		})
		resp, err := http.Get("http://" + r.addr + "/plant1/orders/x")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		e := r.event()
		if waited := e.Took.Wait; by == 0 && waited > 40*time.Millisecond || by > 0 && (waited < by || waited > e.Took.Total) {
			t.Errorf("a link after %s: the call waited %s of %s", by, waited, e.Took.Total)
		}
	}
}
