// Package prometheus starts a real Prometheus that scrapes what a test has running, with the alert rules that people install, so
// that metrics, rules and dashboards are tried together. It needs Debian's package prometheus, and says so loudly.
//
//	p := prometheus.Start(t, "sallyport-relay", addr, "../installer/relay/alerts.yaml")
//	for _, expr := range append(p.Rules(t), prometheus.Panels(t, dashboard)...) { _, err := p.Query(expr) ... }
package prometheus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/test/loud"
)

// patience is how long Prometheus may take to start and to scrape.
const patience = 60 * time.Second

// A Server is a Prometheus that runs.
type Server struct{ url string }

// NeedsPromtool ends the test where there is no promtool.
func NeedsPromtool(t *testing.T) {
	t.Helper()
	loud.NeedsProgram(t, "promtool", "metrics and alert rules are not tried (Debian package prometheus)")
}

// CheckMetrics has promtool judge a page of metrics, names and forms.
func CheckMetrics(t *testing.T, text string) {
	t.Helper()
	NeedsPromtool(t)
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// Start checks the rules, scrapes addr each second as the job, and returns once that has been done.
func Start(t *testing.T, job, addr, rules string) *Server {
	t.Helper()
	NeedsPromtool(t)
	loud.NeedsProgram(t, "prometheus", "alert rules and dashboard are not tried (Debian package prometheus)")
	if out, err := exec.Command("promtool", "check", "rules", "--lint-fatal", rules).CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	dir := t.TempDir()
	rules, err := filepath.Abs(rules)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs: "+
		"[{job_name: %s, static_configs: [{targets: [%q]}]}]\n", rules, job, addr)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("promtool", "check", "config", file).CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	listen := freeAddress(t)
	cmd := exec.Command("prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+listen, "--enable-feature=native-histograms", "--log.level=warn")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s := &Server{"http://" + listen}
	s.until(t, fmt.Sprintf("up{job=%q} == 1", job), addr)
	return s
}

// until waits until the answer to a query has the text.
func (s *Server) until(t *testing.T, expr, text string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if answer, err := s.Query(expr); err == nil && strings.Contains(answer, text) {
			return
		}
	}
	t.Fatalf("Prometheus never answered %s with %s", expr, text)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Query asks for the value of an expression now, and gives the answer as it came.
func (s *Server) Query(expr string) (string, error) {
	return s.get("/api/v1/query?query=" + url.QueryEscape(expr))
}

func (s *Server) get(path string) (string, error) {
	resp, err := http.Get(s.url + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, text)
	}
	return string(text), err
}

// Rules are the expressions of the rules that Prometheus has loaded.
func (s *Server) Rules(t *testing.T) (list []string) {
	t.Helper()
	body, err := s.get("/api/v1/rules")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Query string }
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			list = append(list, r.Query)
		}
	}
	if len(list) < 5 {
		t.Fatalf("Prometheus has %d rules: %s", len(list), body)
	}
	return list
}

// Panels are the expressions of a Grafana dashboard, with its variables filled in as Grafana does.
func Panels(t *testing.T, file string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$instance", ".*", "$gateway", ".*", "$api", ".*", "$__rate_interval", "1m")
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			list = append(list, fill.Replace(target.Expr))
		}
	}
	if len(list) < 10 {
		t.Fatalf("the dashboard has %d expressions", len(list))
	}
	return list
}
