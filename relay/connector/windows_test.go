package connector_test

import (
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/relay/connector"
	"sallyport/tunnel"
)

// TestWindowsLogons pass on unread to an API that judges them, to no other, and their refusals inside count as guesses.
func TestWindowsLogons(t *testing.T) {
	t.Parallel()
	var seen atomic.Pointer[tunnel.Request]
	r := withAuth(t, func(s *tunnel.Stream) {
		seen.Store(s.Request())
		if s.Request().Header.Get("Authorization") == basic(`CORP\ann`, "right") {
			respond(200, "hello")(s)
			return
		}
		_ = s.Answer(&tunnel.Response{Status: 401, Problem: &tunnel.Problem{Code: "logon-refused", Executed: tunnel.ExecutedNo}}, nil)
	}, nil, "key+windows")
	var err error
	if _, r.key, err = r.directory.AddKey(t.Context(), "plant1", "orders", "flow", time.Time{}); err != nil {
		t.Fatal(err)
	}
	call := func(want int, fields ...string) *http.Response {
		t.Helper()
		resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, fields...)
		if resp.StatusCode != want {
			t.Errorf("%d %s, want %d", resp.StatusCode, text(t, resp.Body), want)
		}
		return resp
	}
	key, right := []string{"X-Api-Key", r.key}, basic(`CORP\ann`, "right")
	call(503, append(key, "Authorization", right)...) // nobody would judge it
	if seen.Load() != nil {
		t.Fatal("the request reached an API that takes no passwords")
	}
	for _, l := range r.links {
		if err := l.SetOffer([]byte(`{"apis":[{"name":"orders","caller_token":true}]}`)); err != nil {
			t.Fatal(err)
		}
	}
	call(200, append(key, "Authorization", right)...)
	call(401, "Authorization", right)
	if got := strings.Join(call(401, key...).Header["Www-Authenticate"], "|"); !strings.Contains(got, `Basic realm="plant1/orders", charset="UTF-8"`) {
		t.Errorf("challenged with %s", got)
	}
	call(401, append(key, "Authorization", "Bearer x")...)
	for range 12 {
		last := r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil, append(key, "Authorization", basic(`CORP\ann`, "wrong"))...)
		if last.StatusCode == 429 {
			return
		}
	}
	t.Error("guesses are not slowed")
}

// TestWindowsPairs that cannot be published say why.
func TestWindowsPairs(t *testing.T) {
	t.Parallel()
	r := withAuth(t, respond(200, ""), nil, "none")
	for name, c := range map[string]connector.Connector{
		"password-alone":        {Auth: []string{"windows"}},
		"oauth2":                {Auth: []string{"oauth2+windows"}},
		"basic":                 {Auth: []string{"basic+windows"}},
		"beside windows":        {Auth: []string{"key", "windows"}, PasswordAlone: true},
		"makes sense":           {Auth: []string{"key"}, PasswordAlone: true},
		"not needed":            {Auth: []string{"windows"}, PasswordAlone: true, From: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}},
		"contradicts":           {Auth: []string{"key+windows"}, PasswordAlone: true},
		"the relay does not kn": {Auth: []string{"key+windows"}, Webhooks: []string{"POST /hooks"}},
	} {
		c.Gateway, c.Name = "plant1", "other"
		if _, err := r.directory.PlanPublish(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	here := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	for _, c := range []connector.Connector{{Auth: []string{"windows"}, PasswordAlone: true}, {Auth: []string{"windows"}, From: here}, {Auth: []string{"windows+key"}}} {
		c.Gateway, c.Name = "plant1", "other"
		if after, err := r.directory.PlanPublish(c); err != nil || !after.Async.Off {
			t.Errorf("%v: %+v %v", c.Auth, after, err)
		}
	}
}
