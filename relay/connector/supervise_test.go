package connector

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"sallyport/relay/operation"
)

// A caller hangs up and its body ends before either is looked at. The call goes on for its record, whichever is seen first.
func TestACallGoesOnWhicheverIsSeenFirst(t *testing.T) {
	t.Parallel()
	for range 100 {
		r := httptest.NewRequest("POST", "/plant1/orders/x", strings.NewReader("x"))
		ctx, hangUp := context.WithCancel(t.Context())
		inner, end := context.WithCancelCause(t.Context())
		c := &call{
			p: NewProxy(Options{PublicURL: new(url.URL), Log: slog.New(slog.DiscardHandler)}), w: httptest.NewRecorder(),
			r: r.WithContext(ctx), place: Place{Published: &Published{}},
		}
		s := &supervised{
			outer: c, inner: &call{r: r.WithContext(inner)}, h: &handover{run: new(operation.Run)}, body: newBodyTap(r, nil),
			done: make(chan struct{}),
		}
		s.cancel = func(cause error) { // as run does when the exchange breaks off
			end(cause)
			close(s.done)
		}
		if _, err := io.ReadAll(s.body); err != nil {
			t.Fatal(err)
		}
		hangUp()
		err := s.wait()
		if ended := inner.Err(); !errors.Is(err, errCallerGone) || ended != nil || !s.h.isDetached() || c.p.Active() != 1 {
			t.Fatalf("%v; the call: %v, %d under way", err, ended, c.p.Active())
		}
		end(nil)
	}
}
