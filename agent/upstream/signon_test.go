package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/agent/winauth"
)

// A fakeCredential speaks a make-believe protocol with the shape of the real ones: as NTLM ("open:NAME", a challenge,
// "final:NAME:CHALLENGE") or as Kerberos ("whole:NAME").
type fakeCredential struct {
	name     string
	kerberos bool
	expires  time.Time
	legs     atomic.Int64
}

func (c *fakeCredential) Identity() string { return c.name }

func (c *fakeCredential) Handshake(winauth.Target) winauth.Handshake { return &fakeHandshake{c: c} }

type fakeHandshake struct {
	c    *fakeCredential
	step int
}

func (h *fakeHandshake) Ahead(context.Context) (winauth.Token, error) {
	if !h.c.kerberos {
		return winauth.Token{}, nil
	}
	h.step = 2
	return h.token("whole:"+h.c.name, false), nil
}

func (h *fakeHandshake) token(v string, opening bool) winauth.Token {
	h.c.legs.Add(1)
	return winauth.Token{Value: "Negotiate " + v, Opening: opening}
}

func (h *fakeHandshake) Answer(ctx context.Context, challenges []string) (winauth.Token, error) {
	var challenge string
	offered := false
	for _, ch := range challenges {
		if scheme, rest, _ := strings.Cut(ch, " "); scheme == "Negotiate" {
			offered, challenge = true, rest
		}
	}
	switch {
	case !offered:
		return winauth.Token{}, &winauth.Error{Kind: winauth.NotOffered, Err: errors.New("no scheme")}
	case h.step == 0 && h.c.kerberos:
		return h.Ahead(ctx)
	case h.step == 0:
		h.step = 1
		return h.token("open:"+h.c.name, true), nil
	case h.step == 1 && challenge != "":
		h.step = 2
		return h.token("final:"+h.c.name+":"+challenge, false), nil
	}
	return winauth.Token{}, &winauth.Error{Kind: winauth.Rejected, Err: errors.New("refused")}
}

func (h *fakeHandshake) Finish(challenges []string) error {
	if h.c.kerberos && !strings.Contains(strings.Join(challenges, ","), "proof") {
		return &winauth.Error{Kind: winauth.NotMutual, Err: errors.New("no proof")}
	}
	return nil
}

func (h *fakeHandshake) Expires() time.Time { return h.c.expires }

func (h *fakeHandshake) Protocol() string {
	if h.c.kerberos {
		return "kerberos"
	}
	return "negotiate/ntlm"
}

// A gate is an upstream that demands the make-believe authentication, of each connection or of each request. What it
// answers is the identity that it believes, and the body that it got.
type gate struct {
	eachRequest bool // else it signs on connections
	announces   bool // Persistent-Auth, as IIS
	closes      bool // hangs up after the 401 that asks first
	refuses     bool // no sign-on is good enough
	forgets     atomic.Bool
	t           *testing.T

	mu       sync.Mutex
	requests []string // "METHOD token-kind body-length"
	run      []string // bodies of requests that were run
	serial   int
}

func (g *gate) serve(t *testing.T) *url.URL {
	g.t = t
	states := sync.Map{} // net.Conn -> *gateConn
	return rawUpstream(t, func(c net.Conn, r *bufio.Reader, head string) {
		st, _ := states.LoadOrStore(c, &gateConn{})
		g.one(c, r, head, st.(*gateConn))
	})
}

type gateConn struct{ who, challenge string }

func (g *gate) one(c net.Conn, r *bufio.Reader, head string, st *gateConn) {
	token := field(head, "Authorization")
	kind, rest, _ := strings.Cut(strings.TrimPrefix(token, "Negotiate "), ":")
	expects := field(head, "Expect") != ""
	ask := func(challenge string, hangUp bool) {
		g.note(head, kind)
		g.readBody(r, head, expects)
		_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate"+challenge+"\r\nContent-Length: 5\r\n\r\nno no")
		if hangUp || expects {
			c.Close()
		}
	}
	if g.forgets.Swap(false) {
		st.who = ""
	}
	who := st.who
	switch kind {
	case "":
		if who == "" {
			ask("", g.closes)
			return
		}
	case "open":
		g.mu.Lock()
		g.serial++
		st.challenge, st.who = strconv.Itoa(g.serial), ""
		g.mu.Unlock()
		ask(" "+st.challenge, false)
		return
	case "final":
		name, challenge, _ := strings.Cut(rest, ":")
		if challenge != st.challenge || g.refuses {
			ask("", false)
			return
		}
		who = name
	case "whole":
		if who = rest; g.refuses {
			ask("", false)
			return
		}
	}
	if !g.eachRequest {
		st.who = who
	}
	g.note(head, kind)
	if expects {
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	body := g.readBody(r, head, false)
	g.mu.Lock()
	g.run = append(g.run, body)
	g.mu.Unlock()
	extra := ""
	if kind != "" {
		extra = "WWW-Authenticate: Negotiate proof\r\n"
		if g.announces {
			extra += "Persistent-Auth: true\r\n"
		}
	}
	answer := who + " " + strconv.Itoa(len(body))
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", extra, len(answer), answer)
}

func (g *gate) note(head, kind string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	method, _, _ := strings.Cut(head, " ")
	g.requests = append(g.requests, method+" "+kind+" "+field(head, "Content-Length"))
}

func (g *gate) readBody(r *bufio.Reader, head string, withheld bool) string {
	n, _ := strconv.Atoi(field(head, "Content-Length"))
	if n == 0 || withheld {
		return ""
	}
	b := make([]byte, n)
	got, _ := io.ReadFull(r, b)
	return string(b[:got])
}

func field(head, name string) string {
	for line := range strings.SplitSeq(head, "\r\n") {
		if k, v, ok := strings.Cut(line, ": "); ok && strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

func (g *gate) log() (requests, run []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.requests...), append([]string(nil), g.run...)
}

func windowsAuth(cred winauth.Credential) Auth {
	return Auth{Kind: WindowsAuth, Windows: As("service", cred)}
}

func ask(t testing.TB, tr *Transport, method, body string) (string, http.Header, error) {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "/x", r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), resp.Header, err
}

// TestSignOn: what goes over the wire for each kind of protocol and upstream.
func TestSignOn(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		gate *gate
		kerb bool
		want []string // for POST "body", then GET, then POST "body"
	}{
		{
			"NTLM, connection",
			&gate{},
			false,
			[]string{"POST  4", "POST open 0", "POST final 4", "GET  ", "POST  4"},
		},
		{
			"Kerberos, each request",
			&gate{eachRequest: true},
			true,
			[]string{"POST  4", "POST whole 4", "GET whole ", "POST whole 4"},
		},
		{
			"Kerberos, connection",
			&gate{announces: true},
			true,
			[]string{"POST  4", "POST whole 4", "GET  ", "POST  4"},
		},
		{
			"NTLM, asks and closes",
			&gate{closes: true},
			false,
			[]string{"POST  4", "POST open 0", "POST final 4", "GET  ", "POST  4"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			g := tc.gate
			tr := newTransport(t, Config{URL: g.serve(t), Auth: windowsAuth(&fakeCredential{name: "alice", kerberos: tc.kerb})})
			for _, method := range []string{"POST", "GET", "POST"} {
				body := map[string]string{"POST": "body"}[method]
				got, h, err := ask(t, tr, method, body)
				if err != nil {
					t.Fatal(err)
				}
				if got != "alice "+strconv.Itoa(len(body)) {
					t.Errorf("%s: %q", method, got)
				}
				if len(h["Www-Authenticate"])+len(h["Persistent-Auth"]) > 0 {
					t.Errorf("signing on shows: %v", h)
				}
			}
			requests, run := g.log()
			if strings.Join(requests, "|") != strings.Join(tc.want, "|") {
				t.Errorf("requests\n%q, want\n%q", requests, tc.want)
			}
			if strings.Join(run, "|") != "body||body" {
				t.Errorf("run: %q", run)
			}
		})
	}
}

// TestSignOnRefused: a sign-on that is not accepted is one clear error after few requests, and runs nothing.
func TestSignOnRefused(t *testing.T) {
	t.Parallel()
	for _, kerb := range []bool{false, true} {
		g := &gate{refuses: true}
		tr := newTransport(t, Config{URL: g.serve(t), Auth: windowsAuth(&fakeCredential{name: "alice", kerberos: kerb})})
		_, _, err := ask(t, tr, "POST", "body")
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != AuthFailed || !e.NotRun {
			t.Errorf("%v", err)
		}
		if w, ok := errors.AsType[*winauth.Error](err); !ok || w.Kind != winauth.Rejected {
			t.Errorf("%v", err)
		}
		if requests, run := g.log(); len(requests) > 3 || len(run) > 0 {
			t.Errorf("%q, run %q", requests, run)
		}
	}
}

// endlessGate answers 401 with a challenge whatever comes.
func TestSignOnEndless(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	u := rawUpstream(t, func(c net.Conn, _ *bufio.Reader, _ string) {
		n.Add(1)
		_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate again\r\nContent-Length: 0\r\n\r\n")
	})
	tr := newTransport(t, Config{URL: u, Auth: windowsAuth(endless{})})
	_, _, err := ask(t, tr, "GET", "")
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != AuthFailed || n.Load() != maxLegs {
		t.Errorf("%v after %d requests", err, n.Load())
	}
}

// endless is a token machine that never gives up.
type endless struct{}

func (endless) Identity() string                             { return "endless" }
func (endless) Handshake(winauth.Target) winauth.Handshake   { return endless{} }
func (endless) Ahead(context.Context) (winauth.Token, error) { return winauth.Token{}, nil }
func (endless) Finish([]string) error                        { return nil }
func (endless) Protocol() string                             { return "ntlm" }
func (endless) Answer(context.Context, []string) (winauth.Token, error) {
	return winauth.Token{Value: "Negotiate more", Opening: true}, nil
}

// TestSignOnForgotten: a 401 in the middle of the pool is signed on again, the body sent again.
func TestSignOnForgotten(t *testing.T) {
	t.Parallel()
	g := &gate{}
	tr := newTransport(t, Config{URL: g.serve(t), Auth: windowsAuth(&fakeCredential{name: "alice"})})
	for i := range 4 {
		g.forgets.Store(i == 2)
		if got, _, err := ask(t, tr, "POST", "body"); err != nil || got != "alice 4" {
			t.Fatalf("call %d: %q %v", i, got, err)
		}
	}
	if _, run := g.log(); strings.Join(run, "|") != "body|body|body|body" {
		t.Errorf("run %q", run)
	}
	if tr.learned.perRequest() {
		t.Error("one lapse after several requests is not a rule")
	}
}

// TestTicketEnd: a connection ends with the ticket that signed it on.
func TestTicketEnd(t *testing.T) {
	t.Parallel()
	for left, want := range map[time.Duration]int{time.Hour: 1, -time.Second: 0} {
		g := &gate{}
		tr := newTransport(t, Config{
			URL: g.serve(t), Auth: windowsAuth(&fakeCredential{name: "alice", expires: time.Now().Add(left)}),
		})
		if got, _, err := ask(t, tr, "GET", ""); err != nil || got != "alice 0" {
			t.Fatalf("%q %v", got, err)
		}
		tr.pool.mu.Lock()
		kept := len(tr.pool.idle)
		tr.pool.mu.Unlock()
		if kept != want {
			t.Errorf("with a ticket good for %s: %d connections kept, not %d", left, kept, want)
		}
	}
}

// A bothHandshake has Kerberos for Negotiate and raw NTLM.
type bothHandshake struct{ fakeHandshake }

type bothCredential struct{ fakeCredential }

func (c *bothCredential) Handshake(winauth.Target) winauth.Handshake {
	return &bothHandshake{fakeHandshake{c: &c.fakeCredential}}
}

func (h *bothHandshake) Answer(_ context.Context, challenges []string) (winauth.Token, error) {
	all := strings.Join(challenges, ",")
	switch _, challenge, more := strings.Cut(all, "NTLM "); {
	case h.step == 0 && strings.Contains(all, "Negotiate"):
		h.step = 2
		return winauth.Token{Value: "Negotiate whole:"}, nil
	case h.step == 0:
		h.step = 1
		return winauth.Token{Value: "NTLM open", Opening: true}, nil
	case h.step == 1 && more:
		h.step = 2
		return winauth.Token{Value: "NTLM final:" + challenge}, nil
	}
	return winauth.Token{}, &winauth.Error{Kind: winauth.Rejected, Err: errors.New("refused")}
}

func (h *bothHandshake) Finish([]string) error { return nil }

// TestOnlyNTLM: a credential that has Kerberos signs on to an upstream that offers NTLM alone, at once or after it has
// changed its mind, and each time on a connection of its own.
func TestOnlyNTLM(t *testing.T) {
	t.Parallel()
	for _, changes := range []bool{false, true} {
		var negotiate, calls atomic.Int64
		u := rawUpstream(t, func(c net.Conn, _ *bufio.Reader, head string) {
			offer := "NTLM"
			if changes && calls.Load() == 0 {
				offer = "Negotiate"
			}
			switch token := field(head, "Authorization"); {
			case token == "NTLM final:abc", token == "Negotiate whole:" && offer == "Negotiate":
				calls.Add(1)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
				c.Close()
				return
			case token == "NTLM open":
				offer = "NTLM abc"
			case strings.HasPrefix(token, "Negotiate"):
				negotiate.Add(1)
			}
			_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: "+offer+"\r\nContent-Length: 0\r\n\r\n")
		})
		tr := newTransport(t, Config{URL: u, Auth: windowsAuth(&bothCredential{fakeCredential{name: "alice", kerberos: true}})})
		for i := range 4 {
			if got, _, err := ask(t, tr, "GET", ""); err != nil || got != "ok" {
				t.Fatalf("changes %v, call %d: %q %v", changes, i, got, err)
			}
		}
		want := int64(0)
		if changes {
			want = 1 // the token ahead that found out
		}
		if n := negotiate.Load(); n != want {
			t.Errorf("changes %v: %d Negotiate tokens were sent for nothing, not %d", changes, n, want)
		}
	}
}

// TestLargeBody: a body that is not kept waits for the upstream's 100, goes out once, and never empty under a complete
// token.
func TestLargeBody(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 3*replayLimit)
	for _, kerb := range []bool{false, true} {
		g := &gate{eachRequest: kerb}
		tr := newTransport(t, Config{URL: g.serve(t), Auth: windowsAuth(&fakeCredential{name: "alice", kerberos: kerb})})
		for range 2 {
			if got, _, err := ask(t, tr, "POST", large); err != nil || got != "alice "+strconv.Itoa(len(large)) {
				t.Errorf("kerberos %v: %q %v", kerb, got, err)
			}
		}
		requests, run := g.log()
		if len(run) != 2 || run[0] != large || run[1] != large {
			t.Errorf("kerberos %v: %d requests were run", kerb, len(run))
		}
		for _, r := range requests {
			if strings.HasSuffix(r, " 0") && !strings.Contains(r, "open") {
				t.Errorf("an empty body: %q", requests)
			}
		}
	}
}

// TestLate401: a large body that was sent before the 401 came is an error, not sent again.
func TestLate401(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	u := rawUpstream(t, func(c net.Conn, r *bufio.Reader, head string) {
		n.Add(1)
		size, _ := strconv.Atoi(field(head, "Content-Length"))
		_, _ = io.CopyN(io.Discard, r, int64(size)) // no 100, then too late
		_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n")
	})
	tr := newTransport(t, Config{URL: u, Auth: windowsAuth(&fakeCredential{name: "alice", kerberos: true})})
	_, _, err := ask(t, tr, "POST", strings.Repeat("x", 2*replayLimit))
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != AuthFailed || !e.NotRun || n.Load() != 1 {
		t.Errorf("%v after %d requests", err, n.Load())
	}
}

// TestNotMutual: an upstream that does not prove itself is not believed.
func TestNotMutual(t *testing.T) {
	t.Parallel()
	u := rawUpstream(t, func(c net.Conn, _ *bufio.Reader, head string) {
		if field(head, "Authorization") == "" {
			_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n")
			return
		}
		_, _ = io.WriteString(c, ok+"Content-Length: 4\r\n\r\nevil")
	})
	tr := newTransport(t, Config{URL: u, Auth: windowsAuth(&fakeCredential{name: "alice", kerberos: true})})
	_, _, err := ask(t, tr, "GET", "")
	if w, ok := errors.AsType[*winauth.Error](err); !ok || w.Kind != winauth.NotMutual {
		t.Errorf("%v", err)
	}
	if e, _ := errors.AsType[*Error](err); e == nil || e.NotRun || len(tr.pool.idle) != 0 {
		t.Errorf("%+v, %d idle", e, len(tr.pool.idle))
	}
}

// TestClosedInMidSignOn: one fresh try, then an error.
func TestClosedInMidSignOn(t *testing.T) {
	t.Parallel()
	var conns atomic.Int64
	u := rawUpstream(t, func(c net.Conn, r *bufio.Reader, head string) {
		if field(head, "Authorization") != "" {
			conns.Add(1)
			c.Close()
			return
		}
		_, _ = io.CopyN(io.Discard, r, 4)
		_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n")
	})
	tr := newTransport(t, Config{URL: u, Auth: windowsAuth(&fakeCredential{name: "alice"})})
	_, _, err := ask(t, tr, "POST", "body")
	if _, ok := errors.AsType[*Error](err); !ok || conns.Load() != 2 {
		t.Errorf("%v after %d connections", err, conns.Load())
	}
}

// TestIdentitiesStayApart: two credentials by 32 callers at once through shared pools; nobody ever is the other.
func TestIdentitiesStayApart(t *testing.T) {
	t.Parallel()
	g := &gate{}
	creds := map[string]*fakeCredential{"alice": {name: "alice"}, "bob": {name: "bob"}, "carol": {name: "carol", kerberos: true}}
	tr := newTransport(t, Config{URL: g.serve(t), Concurrent: 8, QueueWait: defaultTimeout, Auth: Auth{
		Kind: WindowsAuth,
		Windows: func(r *http.Request) (SignOn, error) {
			c := creds[r.Header.Get("X-Who")]
			if c == nil {
				return SignOn{}, errors.New("nobody")
			}
			return SignOn{Credential: c, Mode: "caller-password", Proof: "p"}, nil
		},
	}})
	var wg sync.WaitGroup
	for i := range 32 {
		who := []string{"alice", "bob", "carol", ""}[i%4]
		wg.Go(func() {
			for j := range 25 {
				method, body := "GET", ""
				if j%3 == 0 {
					method, body = "POST", strings.Repeat("b", j)
				}
				req, _ := http.NewRequestWithContext(t.Context(), method, "/x", strings.NewReader(body))
				req.Header.Set("X-Who", who)
				resp, err := tr.RoundTrip(req)
				if who == "" {
					if e, ok := errors.AsType[*Error](err); !ok || e.Kind != NoIdentity {
						t.Errorf("nobody got %v", err)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", who, err)
					return
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if name, _, _ := strings.Cut(string(b), " "); name != who {
					t.Errorf("%s was run as %q", who, name)
				}
			}
		})
	}
	wg.Wait()
}

// TestChallengesStayInside: Negotiate and NTLM never leave; other challenges do, where the upstream's 401 passes.
func TestChallengesStayInside(t *testing.T) {
	t.Parallel()
	u := rawUpstream(t, says("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate, NTLM, Basic realm=\"a, b\", charset=\"UTF-8\"\r\n"+
		"WWW-Authenticate: NTLM\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n", false))
	for kind, passes := range map[AuthKind]bool{NoAuth: true, Passthrough: true, BasicAuth: false, BearerAuth: false} {
		tr := newTransport(t, Config{URL: u, Auth: Auth{Kind: kind, User: "u", Secret: func() (string, error) { return "s", nil }}})
		if !passes {
			_, _, err := ask(t, tr, "GET", "")
			if e, ok := errors.AsType[*Error](err); !ok || e.Kind != AuthFailed || !e.NotRun || strings.Contains(err.Error(), "s3") {
				t.Errorf("%s: %v", kind, err)
			}
			continue
		}
		_, h, err := ask(t, tr, "GET", "")
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if got := strings.Join(h["Www-Authenticate"], "|"); got != `Basic realm="a, b", charset="UTF-8"|Bearer` {
			t.Errorf("%s: %q", kind, got)
		}
	}
}

// TestCallersAuthorization reaches the upstream only with passthrough, and never as what signs on a connection.
func TestCallersAuthorization(t *testing.T) {
	t.Parallel()
	u := rawUpstream(t, func(c net.Conn, _ *bufio.Reader, head string) {
		v := field(head, "Authorization")
		fmt.Fprintf(c, ok+"Content-Length: %d\r\n\r\n%s", len(v), v)
	})
	secret := func() (string, error) { return "pw", nil }
	for _, tc := range []struct {
		kind      AuthKind
		sent, got string
	}{
		{NoAuth, "Bearer x", ""},
		{Passthrough, "Bearer x", "Bearer x"},
		{Passthrough, "Negotiate x", ""},
		{Passthrough, "ntlm x", ""},
		{BasicAuth, "Bearer x", "Basic dTpwdw=="},
		{BearerAuth, "Bearer x", "Bearer pw"},
	} {
		tr := newTransport(t, Config{URL: u, Auth: Auth{Kind: tc.kind, User: "u", Secret: secret}})
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "/", nil)
		req.Header.Set("Authorization", tc.sent)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		if string(b) != tc.got {
			t.Errorf("%s, %q: %q", tc.kind, tc.sent, b)
		}
	}
}
