package doctor

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/agent"
	"sallyport/agent/audit"
	"sallyport/agent/link"
)

func TestBeforeAnythingIsThere(t *testing.T) {
	t.Parallel()
	w := newWard(t, "https://relay.example")
	if err := os.Remove(w.config); err != nil {
		t.Fatal(err)
	}
	got := w.examine()
	want(t, got, "config", Warn, "no such file", "join")
	want(t, got, "state", Warn, "not there yet")
	want(t, got, "identity", Warn, "run: sallyport-agent join")
	want(t, got, "relay", Skip, "--relay")
	ca := newAuthority(t)
	w.options.Relay = ca.serve(relay(), longLife).URL
	beforehand := w.examine()
	want(t, beforehand, "relay.route", OK)
	want(t, beforehand, "relay.tls", Fail, "Ward Test Root") // no agent.yaml says that it is trusted
	want(t, beforehand, "relay.member", Skip)
	w.options.Relay = ""
	if _, err := os.Stat(w.state); err == nil {
		t.Error("the state directory was made")
	}
	w.options.Named = true
	want(t, w.examine(), "config", Fail)
}

// Without a configuration that can be read, the relay is the one that the agent has joined.
func TestABrokenConfiguration(t *testing.T) {
	t.Parallel()
	r := "https://" + closedPort(t)
	w := newWard(t, r, "nonsense: true")
	w.join(r)
	got := w.examine()
	want(t, got, "config", Fail, "nonsense", "config check")
	want(t, got, "identity", OK, "plant1")
	want(t, got, "relay.route", Fail, r)
	if err := os.Remove(w.config); err != nil {
		t.Fatal(err)
	}
	want(t, w.examine(), "config", Fail, "no such file")
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	const r = "https://relay.invalid"
	for name, c := range map[string]struct {
		spoil  func(*ward) error
		id     string
		status Status
		words  []string
	}{
		"agent.yaml that others write": {
			func(w *ward) error { return os.Chmod(w.config, 0o666) },
			"config.warning", Warn,
			[]string{"other accounts may write", "chmod go-w"},
		},
		"a state directory that others write": {
			func(w *ward) error { return os.Chmod(w.state, 0o777) },
			"state", Fail,
			[]string{"not private", "chmod 700"},
		},
		"whose key cannot be seen then": {
			func(w *ward) error { return os.Chmod(w.state, 0o777) },
			"identity", Skip,
			[]string{"no state directory can be read"},
		},
		"a key that others read": {
			func(w *ward) error { return os.Chmod(filepath.Join(w.state, "identity.json"), 0o644) },
			"state", Fail,
			[]string{"identity.json", "chmod 600", "key rotate"},
		},
		"a damaged key": {
			func(w *ward) error { return os.WriteFile(filepath.Join(w.state, "identity.json"), []byte("{"), 0o600) },
			"identity", Fail,
			[]string{"damaged", "backup"},
		},
		"another gateway": {
			func(w *ward) error {
				return os.WriteFile(w.config, []byte("relay: "+r+"\ngateway: plant2\n"), 0o600)
			},
			"identity", Fail,
			[]string{"plant1", "plant2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWard(t, r)
			w.join(r)
			want(t, w.examine(), "identity", OK)
			if err := c.spoil(w); err != nil {
				t.Fatal(err)
			}
			want(t, w.examine(), c.id, c.status, c.words...)
		})
	}
}

// The signature is checked as 'run' does it, and nothing is pinned.
func TestSignature(t *testing.T) {
	t.Parallel()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := newWard(t, "https://"+closedPort(t), "policy_signers: ['"+agent.SignerName(public)+"']")
	dir := w.join("https://relay.example")
	want(t, w.examine(), "config.signature", Fail, "policy sign")
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w.config+agent.SignatureSuffix, agent.SignConfig(key, text), 0o644)
	want(t, w.examine(), "config.signature", OK)
	if pinned, err := agent.Signers(dir); err != nil || len(pinned) != 0 {
		t.Errorf("pinned: %v, %v", pinned, err)
	}
	write(t, w.config, string(text)+"# changed\n", 0o644)
	want(t, w.examine(), "config.signature", Fail, "does not fit")
}

func TestLinks(t *testing.T) {
	t.Parallel()
	up := link.Status{State: link.StateUp}
	down := link.Status{Slot: 1, State: link.StateDown, Reason: "connect: no route"}
	wait := link.Status{State: link.StateWaiting}
	for name, c := range map[string]struct {
		s      agent.Status
		id     string
		status Status
		word   string
	}{
		"up":          {agent.Status{Running: true, Links: []link.Status{up, up}}, "links", OK, "2 of 2 up"},
		"one":         {agent.Status{Running: true, Links: []link.Status{up, down}}, "links", Warn, "1 of 2 up; link 1 is down: connect: no route"},
		"none":        {agent.Status{Running: true, Links: []link.Status{down}}, "links", Fail, "0 of 1 up"},
		"waiting":     {agent.Status{Running: true, Links: []link.Status{wait}}, "links", Warn, "agent approve"},
		"stopped":     {agent.Status{Links: []link.Status{up}}, "links", Warn, "does not run"},
		"clone":       {agent.Status{Running: true, Links: []link.Status{up}, Clone: &agent.Clone{Peer: "10.0.0.9"}}, "links.clone", Fail, "10.0.0.9"},
		"killed long": {agent.Status{Running: true, Written: time.Unix(1, 0), Links: []link.Status{up}}, "links", Warn, "does not run"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWard(t, "https://"+closedPort(t))
			dir := w.join("https://relay.example")
			if c.s.Written.IsZero() {
				c.s.Written = time.Now()
			}
			data, err := json.Marshal(c.s)
			if err != nil {
				t.Fatal(err)
			}
			if err := dir.Write("status.json", data); err != nil {
				t.Fatal(err)
			}
			want(t, w.examine(), c.id, c.status, c.word)
		})
	}
}

// TestAnOldStatus: an agent that runs and cannot write its status, because its disk is full, is not taken for one that was killed.
func TestAnOldStatus(t *testing.T) {
	t.Parallel()
	w := newWard(t, "https://"+closedPort(t))
	dir := w.join("https://relay.example")
	data, err := json.Marshal(agent.Status{Running: true, Written: time.Now().Add(-time.Hour), Links: []link.Status{{State: link.StateUp}}})
	if err == nil {
		err = dir.Write("status.json", data)
	}
	if err != nil {
		t.Fatal(err)
	}
	record, err := audit.Open(dir, audit.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	writing.Go(func() { _ = record.Run(ctx) })
	want(t, w.examine(), "links", Warn, "it runs, and last said so at", "make room")
	stop()
	writing.Wait()
	want(t, w.examine(), "links", Warn, "does not run")
}

func TestBoundsOfTheMachine(t *testing.T) {
	t.Parallel()
	for free, s := range map[uint64]Status{10 << 20: Fail, 100 << 20: Warn, 1 << 30: OK} {
		if f := judgeSpace(Finding{}, free); f.Status != s {
			t.Errorf("%d bytes free: %+v, want %s", free, f, s)
		}
	}
	for n, s := range map[uint64]Status{100: Fail, 1000: Warn, 4096: OK} {
		if f := judgeHandles(Finding{}, n); f.Status != s {
			t.Errorf("%d handles: %+v, want %s", n, f, s)
		}
	}
}

// The password of a proxy's URL is nowhere, and it is said who named the proxy.
func TestAProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	proxy := closedPort(t)
	w := newWard(t, "https://relay.invalid")
	w.options.Environment = func(*url.URL) (*url.URL, error) {
		return &url.URL{Scheme: "http", Host: proxy, User: url.UserPassword("anna", password)}, nil
	}
	got := w.examine()
	want(t, got, "relay.dns", OK, "127.0.0.1")
	want(t, got, "relay.route", Fail, "through the proxy http://"+proxy+" (HTTPS_PROXY", "refused")
	w.options.Environment = func(*url.URL) (*url.URL, error) { return nil, nil }
	w2 := w.examine()
	want(t, w2, "relay.route", Fail, "NO_PROXY exempts the relay")
	if all := text(t, got) + text(t, w2); strings.Contains(all, password) || strings.Contains(all, "anna") {
		t.Errorf("the proxy's password is shown: %s", all)
	}
}

func TestWorst(t *testing.T) {
	t.Parallel()
	if got := Worst([]Finding{{Status: Skip}, {Status: Fail}, {Status: Warn}}); got != Fail {
		t.Error(got)
	}
	if got := Worst([]Finding{{Status: OK}, {Status: Warn}, {Status: Skip}}); got != Warn {
		t.Error(got)
	}
}
