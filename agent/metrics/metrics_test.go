package metrics

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/test/prometheus"
)

// full gives metrics with a sample of every family.
func full() *Metrics {
	m := New(Sources{
		Version: `1.2.3"\` + "\n",
		Links: func() Links {
			return Links{
				Each:    []Link{{Slot: 0, State: "up", RTT: 20 * time.Millisecond}, {Slot: 1, State: "down"}},
				Streams: 7, Reconnects: 1, Failures: 2, Lost: 3,
			}
		},
		Config: func() Config { return Config{InForce: true, Loaded: 4, Failed: 5} },
		Record: func() Record {
			return Record{Queued: 6, Failures: 8, Dropped: map[string]uint64{"audit": 9, "syslog": 10}}
		},
		Paused: func() map[string]bool { return map[string]bool{"orders": false, "files": true} },
	})
	m.Observe(Call{API: "orders", Allowed: true, Status: 200, In: 10, Out: 200, Took: 30 * time.Millisecond, SignOn: "kerberos", SignedOn: Accepted})
	m.Observe(Call{API: "orders", Allowed: true, Status: 502, Problem: "upstream-auth", Took: 300 * time.Second, Waited: 2 * time.Second, SignedOn: Failed})
	m.Observe(Call{API: "orders", Status: 403, Problem: "policy-refused", Took: time.Millisecond})
	m.Observe(Call{Allowed: true, Problem: "caller-gone"})
	return m
}

func TestText(t *testing.T) {
	t.Parallel()
	text := string(full().Text())
	for _, want := range []string{
		`sallyport_agent_build_info{version="1.2.3\"\\\n",goversion="go1.`,
		`sallyport_agent_links{state="up"} 1`, `sallyport_agent_links{state="down"} 1`, `sallyport_agent_links{state="refused"} 0`,
		`sallyport_agent_link_rtt_seconds{slot="0"} 0.02`, "sallyport_agent_streams 7",
		"sallyport_agent_link_reconnects_total 1", "sallyport_agent_link_failures_total 2", "sallyport_agent_link_losses_total 3",
		`sallyport_agent_calls_total{api="orders",verdict="allowed",code="2xx"} 1`,
		`sallyport_agent_calls_total{api="orders",verdict="allowed",code="5xx"} 1`,
		`sallyport_agent_calls_total{api="orders",verdict="refused",code="4xx"} 1`,
		`sallyport_agent_calls_total{api="",verdict="allowed",code="none"} 1`,
		`sallyport_agent_call_problems_total{api="orders",problem="upstream-auth"} 1`,
		`sallyport_agent_call_duration_seconds_bucket{api="orders",le="0.025"} 0`,
		`sallyport_agent_call_duration_seconds_bucket{api="orders",le="0.05"} 1`,
		`sallyport_agent_call_duration_seconds_bucket{api="orders",le="240"} 1`,
		`sallyport_agent_call_duration_seconds_bucket{api="orders",le="+Inf"} 2`,
		`sallyport_agent_call_duration_seconds_sum{api="orders"} 300.03`, `sallyport_agent_call_duration_seconds_count{api="orders"} 2`,
		`sallyport_agent_call_wait_seconds_bucket{api="orders",le="1"} 0`, `sallyport_agent_call_wait_seconds_bucket{api="orders",le="2.5"} 1`,
		`sallyport_agent_call_wait_seconds_count{api="orders"} 1`, `sallyport_agent_call_wait_seconds_count{api=""} 0`,
		`sallyport_agent_call_bytes_total{api="orders",direction="out"} 200`,
		`sallyport_agent_authentications_total{api="orders",protocol="kerberos",outcome="accepted"} 1`,
		`sallyport_agent_authentications_total{api="orders",protocol="unknown",outcome="failed"} 1`,
		"sallyport_agent_config_in_force 1", `sallyport_agent_config_reloads_total{outcome="failed"} 5`,
		`sallyport_agent_paused{api="files"} 1`, `sallyport_agent_paused{api="orders"} 0`,
		"sallyport_agent_audit_queue_events 6", "sallyport_agent_audit_write_failures_total 8",
		`sallyport_agent_records_dropped_total{record="syslog"} 10`, "process_start_time_seconds ", "go_goroutines ",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("the page lacks %s\n%s", want, text)
		}
	}
}

// TestPromtoolTakesThePage: Prometheus' own linter has nothing to say against names, help and form.
func TestPromtoolTakesThePage(t *testing.T) {
	t.Parallel()
	prometheus.CheckMetrics(t, string(full().Text()))
}

// TestLabelsAreBounded: whatever becomes a name, the page does not grow for ever.
func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	m := New(Sources{})
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range maxAPIs {
				m.Observe(Call{API: fmt.Sprintf("api-%d-%d", n, i), Status: 200})
			}
			for i := range 2 * maxWords {
				m.Observe(Call{API: "one", Problem: fmt.Sprintf("p-%d-%d", n, i), SignOn: fmt.Sprintf("s-%d-%d", n, i), SignedOn: Accepted})
			}
		})
	}
	m.Observe(Call{API: "one"})
	wg.Wait()
	list := m.all()
	if len(list) > maxAPIs+1 {
		t.Errorf("%d APIs have series, want at most %d", len(list), maxAPIs+1)
	}
	var calls uint64
	for _, s := range list {
		if len(s.problems) > maxWords+1 || len(s.signOns) > maxWords+1 {
			t.Errorf("API %s has %d problems and %d sign-ons, want at most %d", s.api, len(s.problems), len(s.signOns), maxWords+1)
		}
		for verdict := range s.calls {
			for i := range s.calls[verdict] {
				calls += s.calls[verdict][i].Load()
			}
		}
	}
	if want := uint64(4*maxAPIs + 4*2*maxWords + 1); calls != want {
		t.Errorf("%d calls are counted, want %d", calls, want)
	}
}

func TestCheckAddress(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"127.0.0.1:9464": "", "127.8.9.1:9464": "", "[::1]:9464": "",
		"0.0.0.0:9464": "not a loopback address", "10.0.0.5:9464": "listens to this machine alone", "[::]:9464": "not a loopback",
		":9464": "in figures", "localhost:9464": "in figures", "host.example:9464": "in figures",
		"127.0.0.1": "no address", "127.0.0.1:": "no port", "127.0.0.1:http": "no port", "127.0.0.1:0": "no port", "127.0.0.1:70000": "no port",
		"[fe80::1%lo]:9464": "not a loopback", "[::ffff:10.0.0.1]:9464": "not a loopback",
	} {
		err := CheckAddress(address)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "(write 127.0.0.1:9464)")) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
}

// TestWhoIsAnswered: only who asks for this machine, and only for the metrics.
func TestWhoIsAnswered(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(full().Handler())
	t.Cleanup(srv.Close)
	for _, c := range []struct {
		method, path, host string
		want               int
	}{
		{"GET", "/metrics", "127.0.0.1:9464", 200},
		{"GET", "/metrics", "localhost:9464", 200},
		{"GET", "/metrics", "[::1]:9464", 200},
		{"GET", "/metrics", "[::1]", 200},
		{"HEAD", "/metrics", "localhost", 200},
		{"GET", "/metrics", "evil.example:9464", 421},
		{"GET", "/metrics", "127.0.0.1.evil.example", 421},
		{"GET", "/", "localhost", 404},
		{"GET", "/debug/pprof/", "localhost", 404},
		{"POST", "/metrics", "localhost", 405},
	} {
		q, err := http.NewRequestWithContext(t.Context(), c.method, srv.URL+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Host = c.host
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != c.want {
			t.Errorf("%s %s of %s: %d, want %d (%v)", c.method, c.path, c.host, resp.StatusCode, c.want, err)
		}
		if c.want != 200 && strings.Contains(string(body), "sallyport_agent") {
			t.Errorf("%s %s of %s got metrics", c.method, c.path, c.host)
		}
	}
}

// TestServe: an address that another program has is told once, and Serve ends when it shall.
func TestServe(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	told := make(lines, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := full().Serve(ctx, taken.Addr().String(), slog.New(slog.NewTextHandler(told, nil))); err != nil {
			t.Error(err)
		}
	})
	select {
	case line := <-told:
		if !strings.Contains(line, "the metrics cannot be offered") || !strings.Contains(line, "address already in use") {
			t.Errorf("the log has %s", line)
		}
	case <-time.After(30 * time.Second):
		t.Error("nobody was told that the address is taken")
	}
	cancel()
	wg.Wait()
	if err := full().Serve(t.Context(), "0.0.0.0:9464", slog.Default()); err == nil {
		t.Error("Serve listens to the network")
	}
}

type lines chan string

func (l lines) Write(text []byte) (int, error) {
	l <- string(text)
	return len(text), nil
}
