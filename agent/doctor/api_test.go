package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/agent/secret"
	"sallyport/agent/winauth/gate"
	"sallyport/agent/winauth/ntlm"
)

const password = "Gr0ss-Geheim!"

// newGate is an API that lets CORP\svc in by NTLM.
func newGate(t *testing.T, schemes ...string) *httptest.Server {
	t.Helper()
	g := &gate.Gate{
		Schemes: schemes,
		Verifier: &ntlm.Verifier{Computer: "ERP", Domain: "CORP", Lookup: func(user, _ string) (ntlm.Hash, bool) {
			return ntlm.HashOf(password), strings.EqualFold(user, "svc")
		}},
		Next: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path != "/api/health" {
				http.NotFound(w, q)
			}
		}),
	}
	s := httptest.NewUnstartedServer(g)
	s.Config.ConnContext = g.ConnContext
	s.Start()
	t.Cleanup(s.Close)
	return s
}

const asAccount = `{windows: {as: account, account: 'CORP\svc', secret: erp, protocol: ntlm}}`

func TestACallWithWindowsAuthentication(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		password string
		status   Status
		words    []string
	}{
		"right":   {password, OK, []string{"200 OK", "svc", "by ntlm"}},
		"wrong":   {"Ni3-Richtig!", Fail, []string{"sign on as", "tried by ntlm"}},
		"not set": {"", Skip, []string{"what it needs failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newGate(t, "NTLM")
			w := newWard(t, "https://"+closedPort(t), api(s.URL+"/api", asAccount, "check: GET /health"))
			store, err := secret.Open(w.join("https://relay.example"), "")
			if err != nil {
				t.Fatal(err)
			}
			if c.password != "" {
				if err := store.Set("erp", secret.New(c.password)); err != nil {
					t.Fatal(err)
				}
			}
			got := w.examine()
			want(t, got, "api.orders.connect", OK)
			want(t, got, "api.orders.auth", OK, "asks for NTLM", "auth is windows", "GET /api/health")
			want(t, got, "api.orders.call", c.status, c.words...)
			if c.password == "" {
				want(t, got, "api.orders.secret", Fail, "sallyport-agent secret set erp")
			}
			if all := text(t, got); c.password != "" && strings.Contains(all, c.password) {
				t.Errorf("the password is shown: %s", all)
			}
		})
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// asker is an API that answers so to who shows no credential.
func asker(t *testing.T, status int, challenges ...string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusOK)
			return
		}
		for _, c := range challenges {
			w.Header().Add("WWW-Authenticate", c)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestWhatAnAPIAsksFor(t *testing.T) {
	t.Parallel()
	const key = "{header: {name: X-API-Key, secret: k}}"
	for name, c := range map[string]struct {
		auth       string
		answer     int
		challenges []string
		status     Status
		words      []string
	}{
		"Negotiate, auth none":        {"none", 401, []string{"Negotiate", "NTLM"}, Fail, []string{"asks for Negotiate, NTLM; auth is none", "windows: {as: service}"}},
		"Negotiate, passthrough":      {"passthrough", 401, []string{"Negotiate"}, Fail, []string{"auth is passthrough"}},
		"Basic, auth none":            {"none", 401, []string{`Basic realm="a, Negotiate"`}, Fail, []string{"asks for Basic;", "basic: {user"}},
		"Bearer, auth basic":          {"{basic: {user: u, secret: k}}", 401, []string{"Bearer"}, Fail, []string{"bearer: {secret"}},
		"Basic, auth basic":           {"{basic: {user: u, secret: k}}", 401, []string{"Basic realm=x"}, OK, nil},
		"Basic, passthrough":          {"passthrough", 401, []string{"Basic realm=x"}, OK, nil},
		"Basic, auth windows":         {asAccount, 401, []string{"Basic realm=x"}, Fail, []string{"auth is windows"}},
		"NTLM alone, kerberos wanted": {strings.Replace(asAccount, "ntlm", "kerberos", 1), 401, []string{"NTLM"}, Fail, []string{"let the API offer Negotiate"}},
		"no scheme, a key":            {key, 401, nil, OK, []string{"no scheme by name"}},
		"nothing":                     {"none", 200, nil, OK, []string{"asks for no sign-on"}},
		"nothing here, a key":         {key, 404, nil, OK, []string{"asks for no sign-on here (auth is header)"}},
		"a fault":                     {"none", 500, nil, Warn, []string{"500"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := asker(t, c.answer, c.challenges...)
			got := newWard(t, "https://"+closedPort(t), api(s.URL, c.auth)).examine()
			want(t, got, "api.orders.auth", c.status, append(c.words, "HEAD / without a credential")...)
			want(t, got, "api.orders.call", Skip)
		})
	}
}

func TestTLSOfAnAPI(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ok := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	})
	t.Run("named authority", func(t *testing.T) {
		t.Parallel()
		s := ca.serve(ok, longLife)
		got := newWard(t, "https://"+closedPort(t), api(s.URL, "none", "tls: {ca: "+ca.file+"}", "check: GET /health")).examine()
		want(t, got, "api.orders.tls", OK, "Ward Test Root", "37 days left")
		want(t, got, "api.orders.auth", OK, "200")
		want(t, got, "api.orders.call", OK, "200")
	})
	t.Run("HEAD is not known", func(t *testing.T) {
		t.Parallel()
		s := ca.serve(ok, longLife)
		got := newWard(t, "https://"+closedPort(t), api(s.URL, "none", "tls: {ca: "+ca.file+"}")).examine()
		want(t, got, "api.orders.auth", OK, "GET / without", "200")
	})
	t.Run("unknown authority", func(t *testing.T) {
		t.Parallel()
		s := ca.serve(ok, longLife)
		got := newWard(t, "https://"+closedPort(t), api(s.URL, "none", "check: GET /health")).examine()
		want(t, got, "api.orders.tls", Fail, "Ward Test Root", "tls.ca")
		want(t, got, "api.orders.call", Skip, "what it needs failed")
	})
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		s := ca.serve(ok, -time.Hour)
		got := newWard(t, "https://"+closedPort(t), api(s.URL, "none", "tls: {ca: "+ca.file+"}")).examine()
		want(t, got, "api.orders.tls", Fail, "ended at", "renew")
	})
}

func TestAnAPIOutOfReach(t *testing.T) {
	t.Parallel()
	got := newWard(t, "https://"+closedPort(t), api("http://"+closedPort(t), "none", "check: GET /health")).examine()
	want(t, got, "api.orders.connect", Fail, "refused")
	want(t, got, "api.orders.call", Skip)
	got = newWard(t, "https://"+closedPort(t), api("http://erp.invalid", "none")).examine()
	want(t, got, "api.orders.dns", Fail, "erp.invalid")
}

func TestAnswersToTheCheck(t *testing.T) {
	t.Parallel()
	for status, s := range map[int]Status{204: OK, 302: OK, 403: Fail, 404: Warn, 500: Fail} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			a := asker(t, status)
			got := newWard(t, "https://"+closedPort(t), api(a.URL, "none", "check: GET /health")).examine()
			want(t, got, "api.orders.call", s, http.StatusText(status))
		})
	}
}

// The credential goes out with the check alone, and one API can be examined without the others.
func TestOneAPIAndItsCredential(t *testing.T) {
	t.Parallel()
	var keys, open, others atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		switch {
		case q.URL.Path == "/other":
			others.Add(1)
		case q.Header.Get("X-Api-Key") == password:
			keys.Add(1)
		default:
			open.Add(1)
		}
	}))
	t.Cleanup(s.Close)
	w := newWard(t, "https://"+closedPort(t), api(s.URL, "{header: {name: X-API-Key, secret: k}}", "check: GET /health"),
		"  - name: other\n    url: "+s.URL+"/other\n    auth: none\n    allow: [GET /]")
	store, err := secret.Open(w.join("https://relay.example"), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Set("k", secret.New(password)); err != nil {
		t.Fatal(err)
	}
	w.options.API = "orders"
	got := w.examine()
	want(t, got, "api.orders.call", OK)
	if keys.Load() != 1 || open.Load() != 1 || others.Load() != 0 {
		t.Errorf("%d calls with the key, %d without, %d of the other API", keys.Load(), open.Load(), others.Load())
	}
	if strings.Contains(text(t, got), password) {
		t.Errorf("the key is shown: %v", got)
	}
	w.options.API = "nope"
	if _, err := Examine(t.Context(), w.options); !errors.Is(err, ErrNoAPI) {
		t.Errorf("an unknown API: %v", err)
	}
}

func TestCallersPasswordsAreNotTried(t *testing.T) {
	t.Parallel()
	s := newGate(t, "NTLM")
	got := newWard(t, "https://"+closedPort(t), api(s.URL+"/api", "{windows: {as: caller-password}}", "check: GET /health")).examine()
	want(t, got, "api.orders.call", Skip, "as its callers")
	want(t, got, "api.orders.lockout", Skip, "no API has a keytab")
}

// Whatever is silent, the examination ends with its context, and says so.
func TestSilentAPIs(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(done) }) // before the server waits for its requests
	apis := "apis:\n"
	for i := range atOnce + 4 {
		apis += "  - {name: a" + string(rune('a'+i)) + ", url: '" + s.URL + "', auth: none}\n"
	}
	w := newWard(t, "https://"+closedPort(t), apis)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	began := time.Now()
	list, err := Examine(ctx, w.options)
	if err != nil || time.Since(began) > 30*time.Second {
		t.Fatalf("after %s: %v", time.Since(began), err)
	}
	silent, left := 0, 0
	for _, f := range list {
		switch {
		case strings.HasSuffix(f.ID, ".auth") && f.Status == Fail && strings.Contains(f.Found, "no answer in time"):
			silent++
		case strings.Contains(f.Found, "no time was left"):
			left++
		}
	}
	if silent != atOnce || left != 4 {
		t.Errorf("%d silent, %d not examined; want %d and 4", silent, left, atOnce)
	}
}
