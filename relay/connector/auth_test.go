package connector_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/relay/connector"
	"sallyport/tunnel"
)

const password = "correct horse battery"

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// withAuth is a rig whose connector takes these ways, with the user alice.
func withAuth(t *testing.T, agent func(*tunnel.Stream), set func(*connector.Connector), ways ...string) *rig {
	t.Helper()
	r := start(t, agent, settings{connector: func(c *connector.Connector) {
		c.Auth = ways
		if set != nil {
			set(c)
		}
	}})
	if slices.ContainsFunc(ways, func(w string) bool { return strings.Contains(w, "basic") }) {
		if _, err := r.directory.SetUser(t.Context(), "plant1", "orders", "alice", password); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func TestWaysToAuthenticate(t *testing.T) {
	t.Parallel()
	const keyWay = `ApiKey realm="plant1/orders", header="X-Api-Key"`
	const basicWay = `Basic realm="plant1/orders", charset="UTF-8"`
	for name, ways := range map[string][]string{"basic": {"basic"}, "either": {"key", "basic"}, "both": {"basic+key"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen *tunnel.Request
			r := withAuth(t, func(s *tunnel.Stream) { seen = s.Request(); respond(200, "")(s) }, nil, ways...)
			if name == "both" {
				var err error
				if _, r.key, err = r.directory.AddKey(t.Context(), "plant1", "orders", "flow-prod", time.Time{}); err != nil {
					t.Fatal(err)
				}
			}
			right, wrong := basic("alice", password), basic("alice", "incorrect horse")
			key, user := []string{"X-Api-Key", r.key}, []string{"Authorization", right}
			cases := map[string][]struct {
				fields []string
				want   string // caller, or code of a refusal
			}{
				"basic": {
					{user, "user:alice"},
					{append(key, user...), "user:alice"},
					{[]string{"Authorization", wrong}, "logon-refused"},
					{[]string{"Authorization", basic("bob", password)}, "logon-refused"},
					{append(user, user...), "logon-refused"},
					{[]string{"Authorization", "Bearer x"}, "logon-refused"},
					{nil, "logon-missing"},
				},
				"either": {
					{key, "key:flow-prod"},
					{user, "user:alice"},
					{append(key, "Authorization", wrong), "key:flow-prod"},
					{[]string{"Authorization", wrong}, "logon-refused"},
					{[]string{"X-Api-Key", "x"}, "key-refused"},
					{nil, "logon-missing"},
				},
				"both": {
					{append(key, user...), "key:flow-prod user:alice"},
					{key, "logon-missing"},
					{user, "key-required"},
					{append(key, "Authorization", wrong), "logon-refused"},
					{append(user, "X-Api-Key", "x"), "key-refused"},
				},
			}[name]
			for _, c := range cases {
				seen = nil
				resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, slices.Clone(c.fields)...)
				if strings.Contains(c.want, ":") {
					if resp.StatusCode != 200 || seen.Caller != c.want || seen.Header["Authorization"] != nil || seen.Header["X-Api-Key"] != nil {
						t.Errorf("want %s: status %d, %+v", c.want, resp.StatusCode, seen)
					}
					continue
				}
				wantProblem(t, resp, 401, c.want, "relay", "no")
				want := map[string][]string{"basic": {basicWay}, "either": {keyWay, basicWay}, "both": {keyWay, basicWay}}[name]
				if got := resp.Header["Www-Authenticate"]; !slices.Equal(got, want) || seen != nil {
					t.Errorf("challenges %q, want %q; agent saw %v", got, want, seen)
				}
			}
			if e := r.event(); strings.Contains(e.Principal+e.Key, password) {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// TestKeyAloneLeavesAuthorizationToTheAPI: it belongs to the relay only where the relay takes it.
func TestKeyAloneLeavesAuthorizationToTheAPI(t *testing.T) {
	t.Parallel()
	var seen *tunnel.Request
	r := withAuth(t, func(s *tunnel.Stream) { seen = s.Request(); respond(200, "")(s) }, nil, "key")
	r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, "X-Api-Key", r.key, "Authorization", "Bearer of-the-api")
	if seen == nil || seen.Header.Get("Authorization") != "Bearer of-the-api" {
		t.Errorf("the agent saw %+v", seen)
	}
}

// TestGuessingIsSlowed: and neither a right key nor a password known to be right is shut out by it.
func TestGuessingIsSlowed(t *testing.T) {
	t.Parallel()
	r := withAuth(t, respond(200, ""), nil, "key", "basic")
	get := func(fields ...string) *http.Response {
		return r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, fields...)
	}
	if _, err := r.directory.SetUser(t.Context(), "plant1", "orders", "bob", password); err != nil {
		t.Fatal(err)
	}
	if resp := get("Authorization", basic("alice", password)); resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	for range 10 {
		wantProblem(t, get("X-Api-Key", "guess"), 401, "key-refused", "relay", "no")
	}
	for _, shown := range [][]string{{"X-Api-Key", "guess"}, {"Authorization", basic("bob", "a guess of some length")}, {"Authorization", basic("bob", password)}} {
		resp := get(shown...)
		wantProblem(t, resp, 429, "slowed", "relay", "no")
		if resp.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	for _, shown := range [][]string{{"X-Api-Key", r.key}, {"Authorization", basic("alice", password)}} {
		if resp := get(shown...); resp.StatusCode != 200 {
			t.Errorf("%s: status %d", shown[0], resp.StatusCode)
		}
	}
	if _, err := r.directory.SetUser(t.Context(), "plant1", "orders", "alice", "another password"); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, get("Authorization", basic("alice", password)), 429, "slowed", "relay", "no")
}

func TestKeyLimits(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	r := withAuth(t, func(s *tunnel.Stream) {
		if s.Request().Target == "/held" {
			<-hold
		}
		respond(200, "")(s)
	}, func(c *connector.Connector) { c.Rate = connector.Rate{Calls: 5, Per: time.Hour} }, "key")
	add := func(name string, l connector.KeyLimits) string {
		t.Helper()
		_, secret, err := r.directory.AddLimitedKey(t.Context(), "plant1", "orders", name, time.Time{}, l)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	get := func(path, key string) *http.Response {
		return r.do(t, http.DefaultClient, "GET", "/plant1/orders"+path, nil, "X-Api-Key", key)
	}
	away := add("away", connector.KeyLimits{From: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}})
	wantProblem(t, get("/x", away), 403, "address-refused", "relay", "no")

	few := add("few", connector.KeyLimits{Rate: connector.Rate{Calls: 2, Per: time.Hour}, From: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	for range 2 {
		if resp := get("/x", few); resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	resp := get("/x", few)
	wantProblem(t, resp, 429, "rate-exceeded", "relay", "no")
	if resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}

	one := add("one", connector.KeyLimits{Concurrent: 1})
	first := make(chan *http.Response, 1)
	go func() { first <- get("/held", one) }()
	eventually(t, "the first call is under way", func() bool { return r.proxy.Active() == 1 })
	wantProblem(t, get("/x", one), 503, "relay-busy", "relay", "no")
	close(hold)
	if resp := <-first; resp.StatusCode != 200 {
		t.Errorf("the first call: status %d", resp.StatusCode)
	}
	// Five calls of all keys were let through to the connector's own rate; refused ones do not count.
	for range 2 {
		if resp := get("/x", r.key); resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	wantProblem(t, get("/x", r.key), 429, "rate-exceeded", "relay", "no")
	for _, bad := range []connector.KeyLimits{
		{Concurrent: -1},
		{From: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")}},
		{From: []netip.Prefix{{}}},
		{From: make([]netip.Prefix, 33)},
	} {
		if _, _, err := r.directory.AddLimitedKey(t.Context(), "plant1", "orders", "bad", time.Time{}, bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestRotateKey(t *testing.T) {
	t.Parallel()
	r := withAuth(t, respond(200, ""), nil, "key")
	works := func(key string) bool {
		resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, "X-Api-Key", key)
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode == 200
	}
	info, second, err := r.directory.RotateKey(t.Context(), "plant1", "orders", "flow-prod", time.Hour)
	if err != nil || info.Name != "flow-prod" || !works(r.key) || !works(second) {
		t.Fatalf("%+v, %v: both must work", info, err)
	}
	_, third, err := r.directory.RotateKey(t.Context(), "plant1", "orders", "flow-prod", 0)
	if err != nil || works(second) || !works(r.key) || !works(third) {
		t.Errorf("%v: the second must have ended, and it alone", err)
	}
	keys, err := r.directory.ListKeys("plant1", "orders")
	if err != nil || len(keys) != 2 || !keys[0].Replaced || keys[1].Replaced {
		t.Errorf("keys %+v, %v", keys, err)
	}
	if _, _, err := r.directory.RotateKey(t.Context(), "plant1", "orders", "flow-prod", -1); err == nil {
		t.Error("a negative overlap is taken")
	}
	if err := r.directory.RevokeKey(t.Context(), "plant1", "orders", "flow-prod"); err != nil || works(r.key) || works(third) {
		t.Errorf("%v: a revoked name must take all its keys along", err)
	}
}

// TestIdentityThatACallerClaims never reaches the agent, in no spelling, and the principal cannot be taken away.
func TestIdentityThatACallerClaims(t *testing.T) {
	t.Parallel()
	var seen *tunnel.Request
	r := withAuth(t, func(s *tunnel.Stream) { seen = s.Request(); respond(200, "")(s) }, nil, "basic")
	fields := []string{"Authorization", basic("alice", password), "Connection", "Authorization, X-Sallyport-Caller, X-Stays", "X-Plain", "yes"}
	for _, name := range []string{
		"X-Sallyport-Caller", "X-MS-CLIENT-PRINCIPAL", "X-Ms-Client-Principal-Name", "x-forwarded-user", "X-Remote-User", "Remote-User",
		"X_Sallyport_Caller", "X_MS_CLIENT_PRINCIPAL", "X_Forwarded_User", "X_Remote_User", "Remote_User", "remote_user",
	} {
		fields = append(fields, name, "mallory")
	}
	both(t, func(t *testing.T, caller *http.Client) {
		mine := fields
		if strings.HasSuffix(t.Name(), "HTTP2") {
			mine = slices.Concat(fields[:2], fields[4:]) // HTTP/2 has no Connection (RFC 9113 section 8.2.2)
		}
		if resp := r.do(t, caller, "GET", "/plant1/orders/x", nil, mine...); resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
		for name, values := range seen.Header {
			if slices.Contains(values, "mallory") {
				t.Errorf("%s reaches the agent", name)
			}
		}
		if seen.Caller != "user:alice" || seen.Header.Get("X-Plain") != "yes" {
			t.Errorf("caller %q, fields %v", seen.Caller, seen.Header)
		}
	})
}
