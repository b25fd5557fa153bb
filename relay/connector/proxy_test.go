package connector_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/relay/connector"
	"sallyport/tunnel"
)

type problem struct {
	Type, Title, Detail, RequestID, Origin, Executed string
	Status                                           int
	Error                                            struct{ Code, Message string }
}

// wantProblem checks that resp is the problem, in full, and gives it.
func wantProblem(t *testing.T, resp *http.Response, status int, code, origin, executed string) problem {
	t.Helper()
	body := text(t, resp.Body)
	var p problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("status %d, the body is no problem: %v\n%s", resp.StatusCode, err, body)
	}
	if resp.StatusCode != status || p.Status != status || p.Error.Code != code || p.Type != "urn:sallyport:problem:"+code ||
		p.Origin != origin || p.Executed != executed {
		t.Errorf("got %d %s\nwant %d %s, origin %s, executed %s", resp.StatusCode, body, status, code, origin, executed)
	}
	if p.Title == "" || p.Error.Message == "" || p.RequestID == "" || p.RequestID != resp.Header.Get("X-Request-Id") {
		t.Errorf("incomplete problem, X-Request-Id %q: %s", resp.Header.Get("X-Request-Id"), body)
	}
	if kind := resp.Header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("Content-Type %q", kind)
	}
	return p
}

func TestExchange(t *testing.T) {
	both(t, func(t *testing.T, caller *http.Client) {
		var seen *tunnel.Request
		var body []byte
		r := start(t, func(s *tunnel.Stream) {
			seen = s.Request()
			body, _ = io.ReadAll(s)
			_ = s.Answer(&tunnel.Response{
				Status: 201, Header: header("X-A", "1", "X-A", "2", "Content-Type", "text/x"), ContentLength: 5,
				Times: tunnel.Times{Agent: time.Millisecond, Auth: 2 * time.Millisecond, Upstream: 3 * time.Millisecond},
			}, []byte("hello"))
		}, settings{})
		resp := r.do(t, caller, "POST", "/plant1/orders/a%2Fb//c/../?q=%zz&&x;y=1", strings.NewReader("{}"),
			"Content-Type", "application/json", "Traceparent", "00-ab", "X-Request-Id", "mine")
		if got := text(t, resp.Body); resp.StatusCode != 201 || got != "hello" || resp.ContentLength != 5 {
			t.Fatalf("got %d %q, length %d", resp.StatusCode, got, resp.ContentLength)
		}
		if diff := cmp.Diff([]string{"1", "2"}, resp.Header["X-A"]); diff != "" {
			t.Error(diff)
		}
		if seen.Target != "/a%2Fb//c/../?q=%zz&&x;y=1" || seen.Method != "POST" || seen.API != "orders" || string(body) != "{}" ||
			seen.ContentLength != 2 || seen.Base != "https://relay.example.com/plant1/orders" {
			t.Errorf("the agent saw %+v with the body %q", seen, body)
		}
		id := resp.Header.Get("X-Request-Id")
		want := header("Content-Type", "application/json", "Traceparent", "00-ab", "X-Request-Id", id, "X-Forwarded-For", "127.0.0.1",
			"X-Forwarded-Proto", "https", "X-Forwarded-Host", "relay.example.com", "X-Forwarded-Prefix", "/plant1/orders",
			"User-Agent", "Go-http-client/"+resp.Proto[5:])
		if resp.ProtoMajor == 2 {
			want.Set("User-Agent", "Go-http-client/2.0")
		}
		if diff := cmp.Diff(want, seen.Header); diff != "" {
			t.Errorf("fields (-want +got):\n%s", diff)
		}
		e := r.event()
		if e.ID != id || e.ID != seen.ID || e.Path != "/plant1/orders/a%2Fb//c/../" || e.In != 2 || e.Out != 5 || e.Status != 201 ||
			e.Took.Agent != time.Millisecond || e.Took.Auth != 2*time.Millisecond || e.Took.Upstream != 3*time.Millisecond ||
			e.Took.Total <= 0 || e.CallerID != "mine" || e.Remote != "127.0.0.1" || e.Agent != "agent" {
			t.Errorf("recorded %+v", e)
		}
	})
}

func TestConnectorAddressWithoutSlashIsItsRoot(t *testing.T) {
	r := start(t, func(s *tunnel.Stream) {
		target := s.Request().Target
		_ = s.Answer(&tunnel.Response{Status: 200, ContentLength: int64(len(target))}, []byte(target))
	}, settings{host: "orders.example.com"})
	both(t, func(t *testing.T, caller *http.Client) {
		if got := text(t, r.do(t, caller, "GET", "/x?y", nil).Body); got != "/x?y" {
			t.Errorf("own host: target %q", got)
		}
	})
}

func TestLargeBodiesBothWays(t *testing.T) {
	both(t, func(t *testing.T, caller *http.Client) {
		r := start(t, func(s *tunnel.Stream) {
			_ = s.SendResponse(&tunnel.Response{Status: 200, ContentLength: s.Request().ContentLength}, false)
			_, _ = io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s})
			_ = s.CloseWrite(nil)
		}, settings{})
		body := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB, echoed while it is still being sent
		for _, reader := range []io.Reader{bytes.NewReader(body), struct{ io.Reader }{bytes.NewReader(body)}} {
			resp := r.do(t, caller, "PUT", "/plant1/orders/x", reader)
			if got := text(t, resp.Body); got != string(body) {
				t.Errorf("%d bytes came back, not the same %d", len(got), len(body))
			}
		}
	})
}

func TestHopByHopFieldsEndAtTheRelay(t *testing.T) {
	var seen *tunnel.Request
	r := start(t, func(s *tunnel.Stream) { seen = s.Request(); respond(200, "")(s) }, settings{})
	conn, br := r.raw(t, "GET /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nConnection: \r\nConnection: authorization, x-forwarded-for, x-hop, content-type\r\n"+
		"Connection: x-request-id, keep-alive\r\nX-Hop: 1\r\nAuthorization: Bearer abc\r\nContent-Type: text/a\r\nKeep-Alive: 1\r\nTE: trailers\r\n"+
		"Proxy-Authorization: Basic x\r\nProxy-Connection: close\r\nProxy: http://evil\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"+
		"X_Forwarded_For: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-User: root\r\nForwarded: for=6.6.6.6\r\n"+
		"X-Real-IP: 6.6.6.6\r\nX_Request_ID: evil\r\nX_Api_Key: k\r\nX-Sallyport-Caller: root\r\napi_key: kept\r\n\r\n")
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	_ = conn.Close()
	want := header("Authorization", "Bearer abc", "Content-Type", "text/a", "Api_key", "kept", "X-Request-Id", resp.Header.Get("X-Request-Id"),
		"X-Forwarded-For", "127.0.0.1", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "relay.example.com", "X-Forwarded-Prefix", "/plant1/orders")
	if diff := cmp.Diff(want, seen.Header); diff != "" {
		t.Errorf("fields at the agent (-want +got):\n%s", diff)
	}
}

func TestAnswerFieldsThatMustNotLeave(t *testing.T) {
	for name, host := range map[string]string{"shared": "", "own": "orders.example.com"} {
		t.Run(name, func(t *testing.T) {
			r := start(t, respond(401, "x",
				"Connection", "x-hop", "X-Hop", "1", "Keep-Alive", "1", "Proxy-Authenticate", "NTLM", "Upgrade", "h2c",
				"Www-Authenticate", "Negotiate", "Www-Authenticate", `NTLM, Basic realm="a, NTLM", charset="UTF-8", Kerberos`,
				"Www-Authenticate", "Negotiate YII=", "Set-Cookie", "s=1; domain=corp.example; HttpOnly ;PATH=/api", "Set-Cookie", "b=2",
				"Service-Worker-Allowed", "/", "Clear-Site-Data", "*", "Strict-Transport-Security", "max-age=1", "Alt-Svc", "h3",
				"Nel", "{}", "Report-To", "{}", "Access-Control-Allow-Origin", "*", "X-Kept", "1", "X-Request-Id", "theirs"), settings{host: host})
			both(t, func(t *testing.T, caller *http.Client) {
				resp := r.do(t, caller, "GET", "/plant1/orders/", nil)
				if got := text(t, resp.Body); got != "x" {
					t.Errorf("body %q", got)
				}
				cookies := []string{"s=1; HttpOnly ; Path=/plant1/orders/", "b=2; Path=/plant1/orders/"}
				want := header("Www-Authenticate", `Basic realm="a, NTLM", charset="UTF-8"`, "X-Kept", "1", "Content-Length", "1")
				if host != "" {
					cookies = []string{"s=1; HttpOnly ;PATH=/api", "b=2"}
					for _, f := range []string{"Service-Worker-Allowed:/", "Clear-Site-Data:*", "Strict-Transport-Security:max-age=1", "Alt-Svc:h3", "Nel:{}", "Report-To:{}"} {
						name, value, _ := strings.Cut(f, ":")
						want.Set(name, value)
					}
				}
				want["Set-Cookie"] = cookies
				if len(resp.Header.Get("X-Request-Id")) != 26 {
					t.Errorf("X-Request-Id %q", resp.Header.Get("X-Request-Id"))
				}
				resp.Header.Del("X-Request-Id")
				resp.Header.Del("Date")
				if diff := cmp.Diff(want, resp.Header); diff != "" {
					t.Errorf("fields at the caller (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestForwardedFromTrustedProxies(t *testing.T) {
	var seen *tunnel.Request
	r := start(t, func(s *tunnel.Stream) { seen = s.Request(); respond(200, "")(s) }, settings{options: func(o *connector.Options) {
		o.Trusted = prefixes("127.0.0.0/8", "10.0.0.0/8")
	}})
	both(t, func(t *testing.T, caller *http.Client) {
		_ = text(t, r.do(t, caller, "GET", "/plant1/orders/", nil, "X-Forwarded-For", "6.6.6.6, 203.0.113.7:5123", "X-Forwarded-For", "10.1.1.1",
			"X-Forwarded-Proto", "http", "X-Forwarded-Host", "api.example.com", "X-Forwarded-Prefix", "/evil").Body)
		for name, want := range map[string]string{
			"X-Forwarded-For": "6.6.6.6, 203.0.113.7:5123, 10.1.1.1, 127.0.0.1", "X-Forwarded-Proto": "http",
			"X-Forwarded-Host": "api.example.com", "X-Forwarded-Prefix": "/plant1/orders",
		} {
			if got := seen.Header[name]; len(got) != 1 || got[0] != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if e := r.event(); e.Remote != "203.0.113.7" {
			t.Errorf("the caller's address is recorded as %s", e.Remote)
		}
	})
}

func TestKeys(t *testing.T) {
	var seen *tunnel.Request
	r := start(t, func(s *tunnel.Stream) { seen = s.Request(); respond(200, "")(s) }, settings{connector: func(c *connector.Connector) {
		c.Auth, c.KeyHeader, c.KeyQuery = []string{connector.AuthKey}, "X-Orders-Key", "code"
	}})
	both(t, func(t *testing.T, caller *http.Client) {
		for _, at := range []struct {
			path   string
			fields []string
			target string
		}{
			{"/x?a=%41&b", []string{"X-Orders-Key", r.key}, "/x?a=%41&b"},
			{"/x?a=%41&code=" + r.key + "&b;c=%zz", nil, "/x?a=%41&b;c=%zz"},
			{"/x?c%6fde=" + r.key, nil, "/x"},
		} {
			resp := r.do(t, caller, "GET", "/plant1/orders"+at.path, nil, at.fields...)
			if resp.StatusCode != 200 || seen.Target != at.target || seen.Header.Get("X-Orders-Key") != "" || seen.Caller != "key:flow-prod" {
				t.Errorf("%s: status %d, target %q, caller %q, fields %v", at.path, resp.StatusCode, seen.Target, seen.Caller, seen.Header)
			}
		}
		for _, bad := range []struct {
			path, code string
			fields     []string
		}{
			{"/x", "key-required", nil},
			{"/x", "key-required", []string{"X-Api-Key", r.key}},
			{"/x", "key-refused", []string{"X-Orders-Key", r.key + "x"}},
			{"/x", "key-refused", []string{"X-Orders-Key", r.key, "X-Orders-Key", r.key}},
			{"/x?code=" + r.key, "key-refused", []string{"X-Orders-Key", "wrong"}},
			{"/_/ping", "key-required", nil},
		} {
			resp := r.do(t, caller, "POST", "/plant1/orders"+bad.path, strings.NewReader("body"), bad.fields...)
			wantProblem(t, resp, 401, bad.code, "relay", "no")
			if got := resp.Header.Get("Www-Authenticate"); got != `ApiKey realm="plant1/orders", header="X-Orders-Key", query="code"` {
				t.Errorf("WWW-Authenticate %q", got)
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, e := range r.events {
			if strings.Contains(e.Path+e.Key+e.CallerID, r.key) {
				t.Errorf("a key is in the record: %+v", e)
			}
		}
	})
}

// TestKeyPlacesAreNamed: a connector takes its key in the header, its own or X-API-Key, and in the query parameter if it has one.
func TestKeyPlacesAreNamed(t *testing.T) {
	for _, place := range []struct{ header, query, detail, challenge string }{
		{"", "", "the X-API-Key header.", `header="X-Api-Key"`},
		{"X-Orders-Key", "", "the X-Orders-Key header.", `header="X-Orders-Key"`},
		{"", "code", "the X-API-Key header or in the query parameter code.", `header="X-Api-Key", query="code"`},
		{"X-Orders-Key", "code", "the X-Orders-Key header or in the query parameter code.", `header="X-Orders-Key", query="code"`},
	} {
		r := start(t, respond(200, ""), settings{connector: func(c *connector.Connector) {
			c.Auth, c.KeyHeader, c.KeyQuery = []string{connector.AuthKey}, place.header, place.query
		}})
		resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/", nil)
		if got, want := resp.Header.Get("Www-Authenticate"), `ApiKey realm="plant1/orders", `+place.challenge; got != want {
			t.Errorf("WWW-Authenticate %s, want %s", got, want)
		}
		if got := text(t, resp.Body); !strings.Contains(got, "Send the connector's key in "+place.detail) {
			t.Errorf("the answer names the place as %s", got)
		}
		header := place.header
		if header == "" {
			header = "X-Api-Key"
		}
		if resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/", nil, header, r.key); resp.StatusCode != 200 {
			t.Errorf("the key in %s: %d", header, resp.StatusCode)
		}
		if resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/?code="+r.key, nil); (resp.StatusCode == 200) != (place.query != "") {
			t.Errorf("the key in the query: %d", resp.StatusCode)
		}
	}
}

func TestPing(t *testing.T) {
	r := start(t, respond(500, "never asked"), settings{})
	both(t, func(t *testing.T, caller *http.Client) {
		resp := r.do(t, caller, "GET", "/plant1/orders/_/ping", nil)
		if body := text(t, resp.Body); resp.StatusCode != 200 || !strings.Contains(body, `"linked":true`) {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
		wantProblem(t, r.do(t, caller, "GET", "/plant1/orders/_/other", nil), 404, "not-found", "relay", "no")
		wantProblem(t, r.do(t, caller, "DELETE", "/plant1/orders/_/ping", nil), 405, "method-refused", "relay", "no")
		wantProblem(t, r.do(t, caller, "TRACE", "/plant1/orders/x", nil), 405, "method-refused", "relay", "no")
		wantProblem(t, r.do(t, caller, "GET", "/plant1/other/x", nil), 404, "not-found", "relay", "no")
	})
}

// A ping tests the credential. Without an agent it still is right, and monitoring can ask for more.
func TestPingWithoutAgent(t *testing.T) {
	r := start(t, nil, settings{connector: func(c *connector.Connector) { c.Auth = []string{connector.AuthKey} }})
	both(t, func(t *testing.T, caller *http.Client) {
		for path, status := range map[string]int{"/_/ping": 200, "/_/ping?link=no": 200, "/_/ping?a&link=requ%69red": 503} {
			wantProblem(t, r.do(t, caller, "GET", "/plant1/orders"+path, nil, "X-Api-Key", "wrong"), 401, "key-refused", "relay", "no")
			resp := r.do(t, caller, "GET", "/plant1/orders"+path, nil, "X-Api-Key", r.key)
			if body := text(t, resp.Body); resp.StatusCode != status || !strings.Contains(body, `no-agent"`) {
				t.Errorf("%s: %d %s", path, resp.StatusCode, body)
			}
		}
	})
}

func TestCORS(t *testing.T) {
	preflight := []string{
		"Origin", "https://app.example", "Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "x-api-key,content-type",
	}
	t.Run("off", func(t *testing.T) {
		r := start(t, respond(200, "", "Access-Control-Allow-Origin", "*"), settings{connector: func(c *connector.Connector) {
			c.Auth = []string{connector.AuthKey}
		}})
		both(t, func(t *testing.T, caller *http.Client) {
			resp := r.do(t, caller, "OPTIONS", "/plant1/orders/", nil, preflight...)
			wantProblem(t, resp, 401, "key-required", "relay", "no")
			resp = r.do(t, caller, "GET", "/plant1/orders/", nil, "Origin", "https://app.example", "X-Api-Key", r.key)
			if got := resp.Header.Get("Access-Control-Allow-Origin"); resp.StatusCode != 200 || got != "" {
				t.Errorf("%d, Access-Control-Allow-Origin %q", resp.StatusCode, got)
			}
		})
	})
	t.Run("on", func(t *testing.T) {
		r := start(t, respond(200, "", "Access-Control-Allow-Origin", "*", "Access-Control-Allow-Credentials", "true", "Vary", "Accept"),
			settings{connector: func(c *connector.Connector) {
				c.Auth, c.CORSOrigins = []string{connector.AuthKey}, []string{"https://app.example"}
			}})
		both(t, func(t *testing.T, caller *http.Client) {
			resp := r.do(t, caller, "OPTIONS", "/plant1/orders/", nil, preflight...)
			h := resp.Header
			if resp.StatusCode != 204 || h.Get("Access-Control-Allow-Origin") != "https://app.example" ||
				h.Get("Access-Control-Allow-Methods") != "PATCH" || h.Get("Access-Control-Allow-Headers") != "x-api-key, content-type" {
				t.Errorf("preflight: %d %v", resp.StatusCode, h)
			}
			resp = r.do(t, caller, "OPTIONS", "/plant1/orders/", nil, "Origin", "https://evil.example", "Access-Control-Request-Method", "GET")
			wantProblem(t, resp, 403, "cors-refused", "relay", "no")
			for status, key := range map[int]string{200: r.key, 401: "wrong"} {
				resp = r.do(t, caller, "GET", "/plant1/orders/", nil, "Origin", "https://app.example", "X-Api-Key", key)
				if h := resp.Header; resp.StatusCode != status || h.Get("Access-Control-Allow-Origin") != "https://app.example" ||
					h.Get("Access-Control-Allow-Credentials") != "" || !slices.Contains(h["Vary"], "Origin") {
					t.Errorf("%d %v", resp.StatusCode, h)
				}
			}
			resp = r.do(t, caller, "GET", "/plant1/orders/", nil, "Origin", "https://evil.example", "X-Api-Key", r.key)
			if resp.StatusCode != 200 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("a page that is not admitted: %d %v", resp.StatusCode, resp.Header)
			}
		})
	})
}

func TestBodyLimit(t *testing.T) {
	broke := make(chan error, 8)
	r := start(t, func(s *tunnel.Stream) {
		_, err := io.Copy(io.Discard, s)
		broke <- err
	}, settings{connector: func(c *connector.Connector) { c.BodyLimit = 100_000 }})
	both(t, func(t *testing.T, caller *http.Client) {
		resp := r.do(t, caller, "POST", "/plant1/orders/", bytes.NewReader(make([]byte, 100_001)))
		wantProblem(t, resp, 413, "body-too-large", "relay", "no")
		select {
		case err := <-broke:
			t.Errorf("the agent heard of it: %v", err)
		default:
		}
		resp = r.do(t, caller, "POST", "/plant1/orders/", struct{ io.Reader }{bytes.NewReader(make([]byte, 200_000))})
		wantProblem(t, resp, 413, "body-too-large", "relay", "unknown")
		if err := <-broke; err == nil {
			t.Error("the agent took the cut body for a whole one")
		}
	})
}

func TestHeaderLimit(t *testing.T) {
	r := start(t, respond(200, ""), settings{options: func(o *connector.Options) { o.HeaderLimit = 64 << 10 }})
	both(t, func(t *testing.T, caller *http.Client) {
		wantProblem(t, r.do(t, caller, "GET", "/plant1/orders/", nil, "X-A", strings.Repeat("a", 64<<10)), 431, "header-too-large", "relay", "no")
		fields := make([]string, 0, 2002)
		for range 1001 {
			fields = append(fields, "X-A", "")
		}
		wantProblem(t, r.do(t, caller, "GET", "/plant1/orders/", nil, fields...), 431, "header-too-large", "relay", "no")
		if resp := r.do(t, caller, "GET", "/plant1/orders/", nil, "X-A", strings.Repeat("a", 63<<10)); resp.StatusCode != 200 {
			t.Errorf("63 kB: %d", resp.StatusCode)
		}
	})
}

func TestAgentProblems(t *testing.T) {
	answer := func(status int, p tunnel.Problem) func(*tunnel.Stream) {
		return func(s *tunnel.Stream) { _ = s.SendResponse(&tunnel.Response{Status: status, Problem: &p}, true) }
	}
	for _, c := range []struct {
		name                   string
		status                 int
		p                      tunnel.Problem
		want                   int
		code, origin, executed string
	}{
		{"policy", 403, tunnel.Problem{Code: "policy-refused", Detail: "d", Origin: "agent", Executed: "no"}, 403, "policy-refused", "agent", "no"},
		{"table wins", 200, tunnel.Problem{Code: "upstream-auth", Title: "t", Origin: "upstream", Executed: "no"}, 502, "upstream-auth", "upstream", "no"},
		{"unknown code", 418, tunnel.Problem{Code: "tea", Title: "t"}, 418, "tea", "agent", "unknown"},
		{"unknown code, bad status", 200, tunnel.Problem{Code: "tea", Title: "t", Origin: "relay"}, 502, "tea", "agent", "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, answer(c.status, c.p), settings{})
			both(t, func(t *testing.T, caller *http.Client) {
				resp := r.do(t, caller, "POST", "/plant1/orders/", strings.NewReader("x"))
				wantProblem(t, resp, c.want, c.code, c.origin, c.executed)
				if e := r.event(); e.Code != c.code || e.Origin != c.origin || e.Status != c.want {
					t.Errorf("recorded %+v", e)
				}
			})
		})
	}
}

func TestPowerPlatformAndUnknownOutcomes(t *testing.T) {
	silent := func(s *tunnel.Stream) { <-s.Context().Done() }
	flow := []string{"X-Ms-Workflow-Run-Id", "0858"}
	apps := []string{"User-Agent", "azure-logic-apps/1.0 (workflow x) microsoft-flow/1.0"}
	for _, c := range []struct {
		name, method, setting string
		fields                []string
		status                int
		code, executed        string
	}{
		{"POST of a flow", "POST", "", flow, 409, "outcome-unknown", "unknown"},
		{"PATCH of a logic app", "PATCH", "", apps, 409, "outcome-unknown", "unknown"},
		{"GET of a flow", "GET", "", flow, 504, "timeout", "unknown"},
		{"POST of anybody", "POST", "", nil, 504, "timeout", "unknown"},
		{"POST of anybody, conflict", "POST", connector.OutcomeConflict, nil, 409, "outcome-unknown", "unknown"},
		{"POST of a flow, plain", "POST", connector.OutcomePlain, flow, 504, "timeout", "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, silent, settings{
				connector: func(k *connector.Connector) { k.OutcomeUnknown = c.setting },
				options: func(o *connector.Options) {
					o.PlatformTimeout, o.AnswerTimeout = 300*time.Millisecond, 600*time.Millisecond
				},
			})
			both(t, func(t *testing.T, caller *http.Client) {
				p := wantProblem(t, r.do(t, caller, c.method, "/plant1/orders/", nil, c.fields...), c.status, c.code, "relay", c.executed)
				if c.fields != nil && !strings.Contains(p.Detail, "202") {
					t.Errorf("the detail does not explain the asynchronous way: %s", p.Detail)
				}
				if strings.Contains(p.Detail, "within") {
					t.Errorf("the detail names a time, though the agent may have given up before it: %s", p.Detail)
				}
				if e := r.event(); slices.Equal(c.fields, flow) && e.FlowRun != "0858" {
					t.Errorf("the flow's run is recorded as %q", e.FlowRun)
				}
			})
		})
	}
}

func TestNotRunGoesToAnotherLink(t *testing.T) {
	var first atomic.Int32
	refuse := func(s *tunnel.Stream) { first.Add(1); s.Reset(tunnel.Refused, "draining") }
	both(t, func(t *testing.T, caller *http.Client) {
		r := start(t, refuse, settings{second: func(s *tunnel.Stream) {
			body, _ := io.ReadAll(s)
			respond(200, "second got "+string(body))(s)
		}})
		for _, body := range []io.Reader{nil, strings.NewReader("{}")} {
			want := "second got "
			if body != nil {
				want += "{}"
			}
			resp := r.do(t, caller, "POST", "/plant1/orders/", body)
			if got := text(t, resp.Body); resp.StatusCode != 200 || got != want {
				t.Errorf("%d %q", resp.StatusCode, got)
			}
		}
		if first.Swap(0) != 2 {
			t.Error("the first link was not tried")
		}
		for range 20 { // what is faster, the refusal or the first byte, is for the scheduler to say
			resp := r.do(t, caller, "POST", "/plant1/orders/", struct{ io.Reader }{strings.NewReader("unknown length")})
			if resp.StatusCode == 200 {
				if got := text(t, resp.Body); got != "second got unknown length" {
					t.Errorf("the second link got a part of the body: %q", got)
				}
				continue
			}
			wantProblem(t, resp, 503, "not-run", "relay", "no")
			if resp.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
		first.Store(0)
	})
	t.Run("no other", func(t *testing.T) {
		r := start(t, refuse, settings{})
		both(t, func(t *testing.T, caller *http.Client) {
			wantProblem(t, r.do(t, caller, "GET", "/plant1/orders/", nil), 503, "not-run", "relay", "no")
		})
	})
}

func TestNoAgent(t *testing.T) {
	for code, c := range map[string]settings{
		"no-agent":    {},
		"not-offered": {connector: func(c *connector.Connector) { c.API = "other" }},
	} {
		r := start(t, nil, c)
		both(t, func(t *testing.T, caller *http.Client) {
			resp := r.do(t, caller, "POST", "/plant1/orders/", strings.NewReader("x"), "X-Ms-Workflow-Run-Id", "1")
			wantProblem(t, resp, 503, code, "relay", "no")
			if resp.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
}

func TestConcurrencyLimit(t *testing.T) {
	entered, leave := make(chan bool, 4), make(chan struct{})
	r := start(t, func(s *tunnel.Stream) { entered <- true; <-leave; respond(200, "")(s) }, settings{options: func(o *connector.Options) {
		o.ConcurrentEach = 1
	}})
	both(t, func(t *testing.T, caller *http.Client) {
		done := make(chan int)
		go func() {
			resp, err := caller.Get(r.url("/plant1/orders/"))
			if err != nil {
				done <- 0
				return
			}
			_ = resp.Body.Close()
			done <- resp.StatusCode
		}()
		<-entered
		wantProblem(t, r.do(t, caller, "GET", "/plant1/orders/", nil), 503, "relay-busy", "relay", "no")
		leave <- struct{}{}
		if status := <-done; status != 200 {
			t.Errorf("the first call: %d", status)
		}
		eventually(t, "its place is free", func() bool { return r.proxy.Active() == 0 })
	})
}

func TestWaitEndsWithTheLastCall(t *testing.T) {
	r := start(t, respond(200, ""), settings{})
	if err := r.proxy.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}
