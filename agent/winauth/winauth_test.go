package winauth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseChallenges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		values []string
		want   []string // scheme and token
	}{
		{"several fields", []string{"Negotiate", "NTLM"}, []string{"negotiate ", "ntlm "}},
		{"one list", []string{"Negotiate, NTLM"}, []string{"negotiate ", "ntlm "}},
		{"any case, any space", []string{" NEGOTIATE ,\tntlm  "}, []string{"negotiate ", "ntlm "}},
		{"token", []string{"Negotiate dG9rZW4="}, []string{"negotiate token"}},
		{"token without padding", []string{"Negotiate dG9rZW4"}, []string{"negotiate token"}},
		{"token in a list", []string{`NTLM dG9rZW4=, Basic realm="x"`}, []string{"ntlm token"}},
		{"others beside", []string{`Basic realm="NTLM, Negotiate", charset="UTF-8", Bearer error="a\"b, NTLM", Negotiate`}, []string{"negotiate "}},
		{"bad Base64", []string{"NTLM !!!"}, []string{"ntlm bad"}},
		{"a parameter is no token", []string{`Negotiate realm="x"`}, []string{"negotiate bad"}},
		{"none", []string{"", "Digest qop=auth", "Negotiated"}, nil},
		{"open quote", []string{`Basic realm="x, NTLM`}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, x := range parseChallenges(c.values) {
				text := x.scheme + " " + string(x.token)
				if x.bad {
					text = x.scheme + " bad"
				}
				got = append(got, text)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFindPrefersTheToken(t *testing.T) {
	t.Parallel()
	c, ok := find(parseChallenges([]string{"Negotiate", "NTLM", "Negotiate dG9rZW4="}), "negotiate")
	if !ok || string(c.token) != "token" {
		t.Errorf("%+v, %v", c, ok)
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Basic realm="a, b\"", Negotiate dG9rZW4=`, "NTLM")
	f.Add("Negotiate,,NTLM ,", `"\`)
	f.Fuzz(func(t *testing.T, a, b string) {
		list := parseChallenges([]string{a, b})
		if len(list) > maxChallenges {
			t.Errorf("%d challenges", len(list))
		}
		for _, c := range list {
			if c.scheme != "negotiate" && c.scheme != "ntlm" {
				t.Errorf("scheme %q", c.scheme)
			}
		}
	})
}

func TestBinding(t *testing.T) {
	t.Parallel()
	state := func(a x509.SignatureAlgorithm) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{SignatureAlgorithm: a, Raw: []byte("der")}}}
	}
	const prefix = len("tls-server-end-point:")
	for _, c := range []struct {
		name  string
		state *tls.ConnectionState
		bytes int // of the hash, 0 for none
	}{
		{"MD5 becomes SHA-256", state(x509.MD5WithRSA), 32},
		{"SHA-1 becomes SHA-256", state(x509.SHA1WithRSA), 32},
		{"ECDSA with SHA-1", state(x509.ECDSAWithSHA1), 32},
		{"SHA-256", state(x509.SHA256WithRSA), 32},
		{"SHA-384", state(x509.ECDSAWithSHA384), 48},
		{"SHA-512", state(x509.SHA512WithRSA), 64},
		{"PSS", state(x509.SHA384WithRSAPSS), 48},
		{"Ed25519", state(x509.PureEd25519), 0},
		{"unknown", state(x509.UnknownSignatureAlgorithm), 0},
		{"no certificate", &tls.ConnectionState{}, 0},
		{"no TLS", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := bindingFor(BindingAuto, c.state)
			want := 0
			if c.bytes > 0 {
				want = prefix + c.bytes
			}
			if err != nil || len(got) != want {
				t.Errorf("auto: %d bytes, %v; want %d", len(got), err, want)
			}
			if got, err := bindingFor(BindingOff, c.state); got != nil || err != nil {
				t.Errorf("off: %x, %v", got, err)
			}
			_, err = bindingFor(BindingRequire, c.state)
			e, is := errors.AsType[*Error](err)
			if (err != nil) != (c.bytes == 0) || (err != nil && (!is || e.Kind != NoBinding)) {
				t.Errorf("require: %v", err)
			}
		})
	}
}

func TestParseName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`corp\Svc`:         `CORP\svc`,
		`Svc@Corp.Example`: `svc@CORP.EXAMPLE`,
		`svc`:              `svc`,
		`a@b@corp.example`: `a@b@CORP.EXAMPLE`,
	} {
		n, err := parseName(in)
		if err != nil || n.identity() != want {
			t.Errorf("%q: %q, %v; want %q", in, n.identity(), err, want)
		}
	}
	for _, in := range []string{"", `\svc`, `CORP\`, `a\b\c`, "svc@", "@corp", "a\nb"} {
		if n, err := parseName(in); err == nil {
			t.Errorf("%q is taken for %+v", in, n)
		}
	}
}

func TestSPN(t *testing.T) {
	t.Parallel()
	if got := (Target{Host: "ERP.corp.example."}).spn(); got != "HTTP/erp.corp.example" {
		t.Error(got)
	}
	if got := (Target{Host: "x", SPN: "HTTP/pool"}).spn(); got != "HTTP/pool" {
		t.Error(got)
	}
}

func TestOptionsReportAll(t *testing.T) {
	t.Parallel()
	o := Options{Protocol: "digest", ChannelBinding: "maybe"}
	err := o.validate()
	if err == nil || !strings.Contains(err.Error(), "digest") || !strings.Contains(err.Error(), "maybe") {
		t.Errorf("error %v", err)
	}
	o = Options{Protocol: NTLM, Mutual: true}
	if o.validate() == nil {
		t.Error("mutual NTLM is taken")
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	var h holds
	now := time.Unix(1e9, 0)
	if err := h.check("who", "spn", now); err != nil {
		t.Fatal(err)
	}
	var last time.Duration
	for range 20 {
		h.result("spn", false, now)
		left := h.table["spn"].until.Sub(now)
		if left < last || left > longHold || h.check("who", "spn", now.Add(left-1)) == nil {
			t.Fatalf("hold of %s after %s", left, last)
		}
		if err := h.check("who", "spn", now.Add(left)); err != nil {
			t.Fatalf("after the hold: %v", err)
		}
		last = left
	}
	if last != longHold {
		t.Errorf("longest hold %s", last)
	}
	if err := h.check("who", "other", now); err != nil {
		t.Errorf("another service: %v", err)
	}
	h.result("spn", true, now)
	if err := h.check("who", "spn", now); err != nil {
		t.Errorf("after a success: %v", err)
	}
	for i := range 3 * maxHolds {
		h.result(string(rune(i)), false, now)
	}
	if len(h.table) > maxHolds {
		t.Errorf("%d holds", len(h.table))
	}
}

// A password that a service has not accepted yet is shown by one sign-on at a time: with a wrong one, many requests at
// once must not lock the account.
func TestOneWrongPasswordAtATime(t *testing.T) {
	t.Parallel()
	for _, right := range []bool{false, true} {
		var h holds
		var shown, now, most atomic.Int64
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				if h.await(t.Context(), "who", "spn", time.Now) != nil {
					return
				}
				shown.Add(1)
				most.Store(max(most.Load(), now.Add(1)))
				time.Sleep(20 * time.Millisecond)
				now.Add(-1)
				h.result("spn", right, time.Now())
			})
		}
		wg.Wait()
		if n := shown.Load(); right && n != 32 || !right && n != 1 {
			t.Errorf("right %v: shown %d times", right, n)
		}
		if right && most.Load() < 2 {
			t.Error("a password that is accepted is still shown one after the other")
		}
	}
}

// A sign-on that nobody reports the end of holds the others up for a while only.
func TestLostTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h holds
		for range 3 {
			start := time.Now()
			if err := h.await(t.Context(), "who", "spn", time.Now); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(start); waited > turnTime {
				t.Errorf("waited %s", waited)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.await(ctx, "who", "spn", time.Now); err == nil {
			t.Error("a caller that has gone got a turn")
		}
	})
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	e := &Error{Kind: UnknownSPN, Err: errors.New("no"), Mend: "do"}
	if got := e.Error(); got != "unknown-spn: no (do)" {
		t.Error(got)
	}
	if !bytes.Contains([]byte((&Error{Kind: Rejected, Err: errors.New("no")}).Error()), []byte("rejected: no")) {
		t.Error("without a mend")
	}
}
