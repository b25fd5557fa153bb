package upstream

import (
	"net/url"
	"testing"
)

// TestSignOnIsTold: the record of an exchange says whether a sign-on was made for it, by which protocol, and what came of it;
// on a connection that is signed on none is.
func TestSignOnIsTold(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		gate *gate
		kerb bool
		want [2]Result // of two calls
	}{
		"NTLM, connection":       {&gate{}, false, [2]Result{{SignOn: Accepted, SignOnBy: "negotiate/ntlm"}, {}}},
		"Kerberos, each request": {&gate{eachRequest: true}, true, [2]Result{{SignOn: Accepted, SignOnBy: "kerberos"}, {SignOn: Accepted, SignOnBy: "kerberos"}}},
		"refused":                {&gate{refuses: true}, true, [2]Result{{SignOn: Refused, SignOnBy: "kerberos"}, {SignOn: Refused, SignOnBy: "kerberos"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{URL: tc.gate.serve(t), Auth: windowsAuth(&fakeCredential{name: "alice", kerberos: tc.kerb})})
			for i, want := range tc.want {
				if _, _, err := r.exchange(t, head("GET", "/x"), ""); err != nil {
					t.Fatal(err)
				}
				if got := <-r.results; got.SignOn != want.SignOn || got.SignOnBy != want.SignOnBy {
					t.Errorf("call %d: %v by %q, want %v by %q (%v)", i+1, got.SignOn, got.SignOnBy, want.SignOn, want.SignOnBy, got.Err)
				}
			}
		})
	}
	var none *call
	if o, by := none.signedOn(nil); o != Untold || by != "" {
		t.Errorf("without a call: %v by %q", o, by)
	}
	r := newRig(t, Config{URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, Auth: windowsAuth(&fakeCredential{name: "alice"})})
	if _, _, err := r.exchange(t, head("GET", "/x"), ""); err != nil {
		t.Fatal(err)
	}
	if got := <-r.results; got.SignOn != Untold {
		t.Errorf("an API that is out of reach has judged a sign-on: %v by %q", got.SignOn, got.SignOnBy)
	}
}
