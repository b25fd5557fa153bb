package relay

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"sallyport/test/prometheus"
)

// measured starts a relay with metrics and makes three calls of it: one that no agent answers, one of a name that was never
// published, and one of a stranger's path.
func measured(t *testing.T) *Relay {
	t.Helper()
	r, _ := running(t, Config{Metrics: &Metrics{Listen: "127.0.0.1:0"}})
	for _, path := range []string{"/plant1/orders/x", "/plant1/unheard-of/x", "/" + strings.Repeat("stranger", 20)} {
		resp, err := http.Get("http://" + r.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	return r
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r := measured(t)
	at := "http://" + r.internal.Addr().String()
	var text string
	waitFor(t, "three calls are counted", func() bool { // an event comes after its answer
		_, text = get(t, at+"/metrics")
		return strings.Contains(text, `sallyport_relay_requests_total{code="404",connector="",gateway="",origin="relay"} 2`)
	})
	for _, want := range []string{
		`sallyport_relay_requests_total{code="503",connector="orders",gateway="plant1",origin="relay"} 1`,
		`sallyport_relay_request_problems_total{connector="orders",gateway="plant1",problem="no-agent"} 1`,
		`sallyport_relay_request_duration_seconds_count{connector="orders",gateway="plant1"} 1`,
		`sallyport_relay_links{gateway="plant1",state="up"} 0`, "sallyport_relay_ready 1", "process_resident_memory_bytes ",
		`sallyport_relay_records_dropped_total{record="store"} 0`, `sallyport_relay_build_info{goversion="go1.`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s\n%s", want, text)
		}
	}
	if strings.Contains(text, "stranger") || strings.Contains(text, "unheard") {
		t.Error("what a stranger asked for has become a label")
	}
	if strings.Contains(text, "certificate_expiry") {
		t.Error("a relay without a certificate of its own says when that ends")
	}
	// Neither the public listener has metrics, nor the internal one anything else, nor profiles unasked.
	for url, want := range map[string]int{
		"http://" + r.Addr().String() + "/metrics": 404, at + "/debug/pprof/": 404, at + "/plant1/orders/x": 404, at + "/_/healthz": 404,
	} {
		if status, _ := get(t, url); status != want {
			t.Errorf("%s: %d, want %d", url, status, want)
		}
	}
}

func TestProfilesOnDemand(t *testing.T) {
	t.Parallel()
	r, _ := running(t, Config{Metrics: &Metrics{Listen: "127.0.0.1:0", Profiles: true}})
	if status, _ := get(t, "http://"+r.internal.Addr().String()+"/debug/pprof/goroutine"); status != http.StatusOK {
		t.Errorf("a profile: %d", status)
	}
}

// TestDashboardAndAlerts: a real Prometheus scrapes a live relay with native histograms, takes our rules, and can answer
// each expression of rules and dashboard; each metric that they name is there.
func TestDashboardAndAlerts(t *testing.T) {
	t.Parallel()
	const rules, dashboard = "../installer/relay/alerts.yaml", "../installer/relay/grafana-dashboard.json"
	r := measured(t)
	p := prometheus.Start(t, "sallyport-relay", r.internal.Addr().String(), rules)
	_, metrics := get(t, "http://"+r.internal.Addr().String()+"/metrics")
	name := regexp.MustCompile(`\b(sallyport_relay|process|go)_[a-z_]+`)
	for _, expr := range append(p.Rules(t), prometheus.Panels(t, dashboard)...) {
		if _, err := p.Query(expr); err != nil {
			t.Error(err)
		}
		for _, metric := range name.FindAllString(expr, -1) {
			known := strings.Contains(metrics, "\n"+metric) || metric == "sallyport_relay_certificate_expiry_timestamp_seconds"
			if !known && metric != "sallyport_relay_request_part_seconds_sum" && metric != "sallyport_relay_request_part_seconds_count" {
				t.Errorf("%s: the relay has no metric %s", expr, metric)
			}
		}
	}
	waitFor(t, "Prometheus has the histogram as a native one", func() bool {
		answer, err := p.Query(`histogram_count(sallyport_relay_request_duration_seconds{connector="orders"})`)
		return err == nil && strings.Contains(answer, `"1"`)
	})
}
