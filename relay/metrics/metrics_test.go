package metrics

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/relay/connector"
	"sallyport/test/prometheus"
)

// TestWaits: calls that waited for an agent are counted with their time, others are not, and Prometheus' linter has nothing against it.
func TestWaits(t *testing.T) {
	t.Parallel()
	m := New(Sources{Version: "1.2.3"})
	for _, wait := range []time.Duration{0, 2 * time.Second, 0, 40 * time.Millisecond} {
		m.Observe(&connector.Event{
			Gateway: "plant1", Connector: "orders", Status: 200, Agent: "a1", Took: connector.Took{Total: 3 * time.Second, Wait: wait},
		})
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	page, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`sallyport_relay_request_wait_seconds_bucket{gateway="plant1",le="0.025"} 0`, `sallyport_relay_request_wait_seconds_bucket{gateway="plant1",le="0.05"} 1`,
		`sallyport_relay_request_wait_seconds_count{gateway="plant1"} 2`, `sallyport_relay_request_wait_seconds_sum{gateway="plant1"} 2.04`,
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %s\n%s", want, page)
		}
	}
	prometheus.CheckMetrics(t, string(page))
}
