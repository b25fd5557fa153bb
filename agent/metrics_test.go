package agent

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"sallyport/test/prometheus"
	"sallyport/tunnel"
)

// measuredRig is a rig whose agent offers metrics, and the address of them.
func measuredRig(t *testing.T) (r *rig, address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	_ = l.Close()
	return newRigAs(t, yamlForm+"metrics: {listen: "+address+"}\n", func(*rig) {}), address
}

func scrape(address string) string {
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// TestMetrics: calls, the configuration and links are counted, what the relay makes up is no label, and an agent that was
// not asked for metrics listens nowhere.
func TestMetrics(t *testing.T) {
	t.Parallel()
	r, address := measuredRig(t)
	l := r.link()
	r.ask(l, tunnel.Request{Method: "GET", Target: "/orders/1"})
	r.ask(l, tunnel.Request{Method: "DELETE", Target: "/orders/3"})
	r.ask(l, tunnel.Request{Method: "GET", Target: "/x", API: "made-up"})
	r.write(strings.Replace(r.text(), "links: 1", "links: nonsense", 1))
	wanted := []string{
		`sallyport_agent_calls_total{api="orders",verdict="allowed",code="2xx"} 1`,
		`sallyport_agent_calls_total{api="orders",verdict="refused",code="4xx"} 1`,
		`sallyport_agent_calls_total{api="",verdict="refused",code="5xx"} 1`,
		`sallyport_agent_call_problems_total{api="orders",problem="policy-refused"} 1`,
		`sallyport_agent_call_duration_seconds_count{api="orders"} 1`,
		`sallyport_agent_links{state="up"} 1`, "sallyport_agent_link_reconnects_total 0",
		"sallyport_agent_config_in_force 0", `sallyport_agent_config_reloads_total{outcome="failed"} 1`,
		`sallyport_agent_records_dropped_total{record="audit"} 0`, `sallyport_agent_paused{api="orders"} 0`,
		`sallyport_agent_build_info{version="1.2.3",`,
	}
	var text string
	r.until("everything is counted", func() bool {
		text = scrape(address)
		for _, want := range wanted {
			if !strings.Contains(text, want) {
				return false
			}
		}
		return true
	})
	prometheus.CheckMetrics(t, text)
	if strings.Contains(text, "made-up") {
		t.Error("a name that the relay made up has become a label")
	}
	l.Close("a trial")
	r.link()
	r.until("the link that was lost and made anew is counted", func() bool {
		text = scrape(address)
		return strings.Contains(text, "sallyport_agent_link_reconnects_total 1") && strings.Contains(text, "sallyport_agent_link_losses_total 1")
	})
	r.stop()
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("an agent that has stopped still listens")
	}
}

// TestDashboardAndAlerts: a real Prometheus scrapes a live agent, takes our rules, and can answer each expression of rules and
// dashboard; each metric that they name is there.
func TestDashboardAndAlerts(t *testing.T) {
	t.Parallel()
	const rules, dashboard = "../installer/agent/alerts.yaml", "../installer/agent/grafana-dashboard.json"
	r, address := measuredRig(t)
	r.ask(r.link(), tunnel.Request{Method: "GET", Target: "/orders/1"})
	p := prometheus.Start(t, "sallyport-agent", address, rules)
	page := scrape(address)
	name := regexp.MustCompile(`\b(sallyport_agent|process|go)_[a-z_]+`)
	for _, expr := range append(p.Rules(t), prometheus.Panels(t, dashboard)...) {
		if _, err := p.Query(expr); err != nil {
			t.Error(err)
		}
		for _, metric := range name.FindAllString(expr, -1) {
			if !strings.Contains(page, "# TYPE "+strings.TrimSuffix(metric, "_bucket")+" ") {
				t.Errorf("%s: the agent has no metric %s", expr, metric)
			}
		}
	}
	answer, err := p.Query(`sallyport_agent_calls_total{api="orders",verdict="allowed",code="2xx"}`)
	if err != nil || !strings.Contains(answer, `"1"`) {
		t.Errorf("Prometheus has of the call: %s (%v)", answer, err)
	}
}

func TestMetricsOnLoopbackAlone(t *testing.T) {
	t.Parallel()
	text := fmt.Sprintf(yamlForm, "https://relay.example.com", "http://127.0.0.1:1")
	if c, err := ParseConfig("agent.yaml", []byte(text)); err != nil || c.Metrics != nil {
		t.Fatalf("metrics unasked: %+v, %v", c, err)
	}
	for _, listen := range []string{"0.0.0.0:9464", ":9464", "10.1.2.3:9464", "localhost:9464"} {
		_, err := ParseConfig("agent.yaml", []byte(text+"metrics: {listen: '"+listen+"'}\n"))
		if err == nil || !strings.Contains(err.Error(), "agent.yaml:11:") || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: %v", listen, err)
		}
	}
}
