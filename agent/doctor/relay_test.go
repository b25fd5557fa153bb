package doctor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/tunnel"
)

func TestAGoodRelay(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := ca.serve(relay(), longLife)
	w := newWard(t, r.URL, "ca: "+ca.file)
	w.join(r.URL)
	got := w.examine()
	for _, id := range []string{"config", "state", "identity", "handles", "relay.dns", "relay.route", "relay.health", "relay.clock", "relay.websocket"} {
		want(t, got, id, OK)
	}
	want(t, got, "relay.route", OK, "without a proxy")
	want(t, got, "relay.tls", Warn, "Ward Test Root", "37 days left", "only the authorities of 'ca'", "inspection")
	want(t, got, "links", Warn, "never run")
}

func TestNoDNS(t *testing.T) {
	t.Parallel()
	w := newWard(t, "https://relay.invalid")
	got := w.examine()
	want(t, got, "relay.dns", Fail, "look up relay.invalid", "DNS")
	if strings.Contains(got["relay.dns"].Found, "does not exist") {
		want(t, got, "relay.dns", Fail, "is 'relay' in agent.yaml right?")
	}
	want(t, got, "relay.route", Fail, "what relay.dns says first")
	want(t, got, "relay.tls", Skip)
	want(t, got, "relay.websocket", Skip)
	want(t, got, "identity", Warn, "not joined yet", "sallyport-agent join")
}

func TestDeadPort(t *testing.T) {
	t.Parallel()
	got := newWard(t, "https://"+closedPort(t)).examine()
	want(t, got, "relay.dns", OK)
	want(t, got, "relay.route", Fail, "refused", "allow this machine to reach the relay")
	want(t, got, "relay.health", Skip)
}

func TestAProxyThatAsksForASignOn(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := ca.serve(relay(), longLife)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Proxy-Authenticate", "Negotiate")
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	t.Cleanup(p.Close)
	got := newWard(t, r.URL, "ca: "+ca.file, "proxy: "+p.URL).examine()
	want(t, got, "relay.route", Fail, "through the proxy "+p.URL+" (of agent.yaml)", "407", "Negotiate", "proxy_auth")
	want(t, got, "relay.tls", Skip)
}

func TestTheUpgradeIsRemoved(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := ca.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }), longLife)
	got := newWard(t, r.URL, "ca: "+ca.file).examine()
	want(t, got, "relay.health", OK)
	want(t, got, "relay.websocket", Fail, "200 OK", "removes the upgrade")
}

func TestAnotherProtocol(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	mux := http.NewServeMux()
	mux.Handle("/", relay())
	mux.HandleFunc("GET "+tunnel.Path, func(w http.ResponseWriter, q *http.Request) {
		up := tunnel.NewUpgrader()
		up.Subprotocols = []string{"other.v1"}
		if ws, err := up.Upgrade(w, q, nil); err == nil {
			_ = ws.Close()
		}
	})
	r := ca.serve(mux, longLife)
	want(t, newWard(t, r.URL, "ca: "+ca.file).examine(), "relay.websocket", Fail, tunnel.Subprotocol)
}

func TestCaptivePortal(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := ca.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html><title>Guest \x1b[31mWi-Fi</title>Please sign in</html>")
	}), longLife)
	got := newWard(t, r.URL, "ca: "+ca.file).examine()
	want(t, got, "relay.health", Fail, "Guest", "Wi-Fi", "sign-in page")
	want(t, got, "relay.websocket", Fail, "sign-in page")
}

func TestTheRelayHasMoved(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for name, c := range map[string]struct {
		code int
		word string
	}{"a redirect": {302, "https://login.example"}, "nothing there": {404, "no relay at this URL"}, "a balancer": {503, "busy or starting"}} {
		r := ca.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://login.example/?secret=x")
			w.WriteHeader(c.code)
		}), longLife)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want(t, newWard(t, r.URL, "ca: "+ca.file).examine(), "relay.health", Fail, c.word)
		})
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for name, c := range map[string]struct {
		life   time.Duration
		setCA  bool
		status Status
		words  []string
	}{
		"expired":       {-time.Hour, true, Fail, []string{"Ward Test Root", "ended at", "clock"}},
		"ends soon":     {50 * time.Hour, true, Warn, []string{"2 days left", "renewed"}},
		"unknown CA":    {longLife, false, Fail, []string{"Ward Test Root", "inspection", "'ca'"}},
		"extra CA only": {longLife, true, Warn, []string{"only the authorities of 'ca'", "compare the issuer"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ca.serve(relay(), c.life)
			var more []string
			if c.setCA {
				more = append(more, "ca: "+ca.file)
			}
			got := newWard(t, r.URL, more...).examine()
			want(t, got, "relay.route", OK)
			want(t, got, "relay.tls", c.status, c.words...)
			if c.status == Fail {
				want(t, got, "relay.clock", Skip)
			}
		})
	}
}

// The relay's clock stands for the right one: the same is seen from a machine whose clock is off.
func TestClocks(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for name, c := range map[string]struct {
		off    time.Duration
		status Status
		word   string
	}{
		"an hour ahead":  {-time.Hour, Fail, "ahead of the relay's"},
		"an hour behind": {time.Hour, Fail, "behind the relay's"},
		"some":           {-2*time.Minute - 30*time.Second, Warn, "ahead of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ca.serve(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("Date", time.Now().Add(c.off).UTC().Format(http.TimeFormat))
				relay().ServeHTTP(w, q)
			}), longLife)
			got := newWard(t, r.URL, "ca: "+ca.file).examine()
			want(t, got, "relay.clock", c.status, c.word, "NTP")
			want(t, got, "relay.health", OK)
		})
	}
}

// What lets connections open and never answers is named, and ends.
func TestSilence(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	ca := newAuthority(t)
	r := ca.serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }), longLife)
	t.Cleanup(func() { close(done) }) // before the server waits for its requests
	w := newWard(t, r.URL, "ca: "+ca.file)
	w.limit = 3 * time.Second // as if there were no more time; each step has 10 s otherwise
	got := w.examine()
	want(t, got, "relay.tls", Warn)
	want(t, got, "relay.health", Fail, "no answer in time", "holds back")
	want(t, got, "relay.websocket", Fail)
}
