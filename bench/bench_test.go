//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// programs builds the relay and the agent once, by the benchmark's own code.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "programs")
	if err != nil {
		return "", err
	}
	s := &stage{options: &options{}, progress: io.Discard, dir: dir}
	relay, _, err := s.binaries(context.Background())
	return filepath.Dir(relay), err
})

// TestMain plays a role when the test is started again for one, as bench itself is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && (os.Args[1] == roleArgument || os.Args[1] == fleetArgument) {
		if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		return
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "benchtest")
	if err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	defer os.RemoveAll(dir)
	os.Setenv("TMPDIR", dir) // short: a unix socket's path ends at 107 bytes
	return m.Run()
}

// TestEveryWay runs all ways through the real programs, for moments: what counts is that every number is there.
func TestEveryWay(t *testing.T) {
	always := []string{"rps_1", "p50_1_us", "p99_1_us", "rps_64", "p50_64_us", "p99_64_us", "cpu_us", "peak_kb"}
	large := []string{"rps_512", "p50_512_us", "p99_512_us", "down_mbps", "up_mbps"}
	for _, c := range []struct {
		args    []string
		metrics []string
		ratios  int // all but that of NTLM, and those of large bodies
	}{
		{[]string{"--tls", "--callers", "1,64,512", "--bulk", "1"}, append(large, always...), len(goals()) - 1},
		{[]string{"--callers", "1,64", "--bulk", "0"}, always, len(goals()) - 3},
	} {
		r := runJSON(t, append(c.args, "--rounds", "1", "--span", "200ms")...)
		for _, name := range allWays {
			for _, metric := range c.metrics {
				v, ok := r.Ways[name][metric]
				if between := metric == "cpu_us" || metric == "peak_kb"; !ok || v <= 0 && !(between && name == "direct") {
					t.Errorf("%v: ways.%s.%s is %v", c.args, name, metric, v)
				}
			}
		}
		if len(r.Ratios) != c.ratios {
			t.Errorf("%v: %d ratios, want %d", c.args, len(r.Ratios), c.ratios)
		}
	}
}

func TestAuth(t *testing.T) {
	r := runJSON(t, "--auth", "--tls", "--rounds", "1", "--callers", "1,64", "--span", "300ms")
	if len(r.Ratios) != 2 {
		t.Fatalf("ratios %+v, want that of CPU and that of handshakes", r.Ratios)
	}
	if n := r.Ratios[1].Value; n < 1 || n > signOnCalls {
		t.Errorf("%v handshakes were counted: nobody has signed on, or every call did", n)
	}
	if cpu := r.Ways["sallyport_ntlm"]["cpu_us"]; cpu <= 0 {
		t.Errorf("CPU of calls with NTLM is %v", cpu)
	}
}

// runJSON runs the benchmark and checks that nothing of it is left.
func runJSON(t *testing.T, args ...string) *report {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	if err := run(t.Context(), append(args, "--json", "--bin", bin), strings.NewReader(""), &out, &progress); err != nil {
		t.Fatalf("bench %v: %v\n%s", args, err, &progress)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "bench*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	r := &report{}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		t.Fatalf("%v in %s", err, &out)
	}
	return r
}

// TestStop: a run that is called off ends soon, and says that it was.
func TestStop(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	err := run(ctx, []string{"--ways", "direct,hop2,h2,yamux", "--callers", "4", "--span", "1m"}, strings.NewReader(""), io.Discard, io.Discard)
	if err == nil || time.Since(began) > 20*time.Second {
		t.Errorf("after %s: error %v", time.Since(began), err)
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200_000)
	for name, c := range map[string]struct {
		text string
		want int64
		ok   bool
	}{
		"length":         {"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", 3, true},
		"long":           {"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + long, 200_000, true},
		"chunks":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 3, true},
		"any":            {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", -1, true},
		"short":          {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 4, false},
		"broken off":     {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", 3, false},
		"without length": {"HTTP/1.1 200 OK\r\n\r\nabc", 3, false},
		"not 200":        {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nabc", 3, false},
		"broken chunks":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 3, false},
	} {
		c1 := &caller{r: bufio.NewReaderSize(strings.NewReader(c.text), 64<<10)}
		if _, err := c1.answer(work{answer: c.want}); (err == nil) != c.ok {
			t.Errorf("%s: error %v", name, err)
		}
		if c.ok && c1.r.Buffered() > 0 {
			t.Errorf("%s: %d bytes are left, which the next answer would begin with", name, c1.r.Buffered())
		}
	}
}

// TestFaults runs what does not take a minute, for moments.
func TestFaults(t *testing.T) {
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		values []string
		ratios int
	}{
		{[]string{"--tls", "--faults", "stuck,bulk"}, []string{"stuck_p99_with_us", "bulk_p99_same_link_us"}, 2},
		{[]string{"--faults", "fleet"}, []string{"fleet_links", "fleet_kb_per_link", "fleet_all_back_s", "fleet_relay_cpu_s"}, 1},
		{[]string{"--soak", "2s"}, []string{"soak_end_calls", "soak_end_relay_goroutines", "soak_warm_agent_rss_kb"}, 4},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), append(c.args, "--json", "--quick", "--bin", bin), nil, &out, t.Output()); err != nil {
			t.Errorf("%v: %v", c.args, err)
			continue
		}
		var r faultReport
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		for _, name := range c.values {
			if r.Faults[name] <= 0 {
				t.Errorf("%v: %s is %v", c.args, name, r.Faults[name])
			}
		}
		if len(r.Ratios) != c.ratios {
			t.Errorf("%v: %d ratios, want %d", c.args, len(r.Ratios), c.ratios)
		}
	}
	if _, err := parseOptions([]string{"--faults", "line,what"}, io.Discard); err == nil {
		t.Error("a row that there is not was taken")
	}
}

func TestStatistics(t *testing.T) {
	t.Parallel()
	times := make([]time.Duration, 200)
	for i := range times {
		times[i] = time.Duration(i + 1)
	}
	if p50, p99 := percentile(times, 50), percentile(times, 99); p50 != 100 || p99 != 198 {
		t.Errorf("of 1..200 the percentiles are %d and %d, want 100 and 198", p50, p99)
	}
	if m := median([]float64{9, 1, 2, 4}); m != 3 {
		t.Errorf("the median of 1 2 4 9 is %v, want 3", m)
	}
	got := map[string]samples{
		"hop1":      {"cpu_us": {10, 20, 40}},
		"sallyport": {"cpu_us": {5, 30, 36}},
	}
	r := wayRatios(got, 3)
	if len(r) != 1 || r[0].Value != 0.9 || !r[0].Reached {
		t.Errorf("the ratios of 0.5, 1.5 and 0.9 give %+v, want the median 0.9, reached", r)
	}
}

// TestOneListener: http.Server closes its listeners more than once, and must get an error from Accept then.
func TestOneListener(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer far.Close()
	l, _, err := answerH2(near)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := l.Accept(); c != near || err != nil {
		t.Errorf("Accept gave %v, %v", c, err)
	}
	l.Close()
	l.Close()
	if _, err := l.Accept(); err == nil {
		t.Error("Accept after Close gave a connection")
	}
}
