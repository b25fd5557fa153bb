package caller_test

import (
	"errors"
	"strings"
	"testing"

	"sallyport/agent/caller"
	"sallyport/agent/policy"
	"sallyport/test/oidc"
)

// TestName: a person is known inside by SID, then by UPN, and otherwise not at all.
func TestName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		p        caller.Principal
		sid, upn string
		says     string
	}{
		"both":    {caller.Principal{SID: "S-1-5-21-1", UPN: "anna@corp.example"}, "S-1-5-21-1", "anna@corp.example", ""},
		"UPN":     {caller.Principal{UPN: "anna@corp.example"}, "", "anna@corp.example", ""},
		"neither": {caller.Principal{ObjectID: "o", Roles: []string{"Buyer"}}, "", "", "optional claim onprem_sid"},
		"an app":  {caller.Principal{App: true, UPN: "anna@corp.example"}, "", "", "application's own"},
	} {
		sid, upn, err := c.p.Name()
		bad, refused := errors.AsType[*caller.Refused](err)
		if sid != c.sid || upn != c.upn || refused != (c.says != "") || refused && (bad.Kind != caller.NoPerson || !strings.Contains(bad.Reason, c.says)) {
			t.Errorf("%s: %q %q %v", name, sid, upn, err)
		}
	}
}

// TestApplicationsAreNobody: names of people never mean an application, whatever its token says.
func TestApplicationsAreNobody(t *testing.T) {
	t.Parallel()
	app := &caller.Principal{App: true, ClientID: "c", ObjectID: "o", UPN: "anna@corp.example", Groups: []string{"g"}, Roles: []string{"r"}}
	for term, want := range map[[2]string]bool{
		{policy.Person, ""}: false, {policy.UPN, "anna@corp.example"}: false, {policy.Object, "o"}: false, {policy.Group, "g"}: false,
		{policy.Role, "r"}: true, {policy.App, "c"}: true, {"else", "c"}: false,
	} {
		if app.Is(term[0], term[1]) != want {
			t.Errorf("%v: not %v", term, want)
		}
	}
	if (&caller.Principal{}).Is(policy.UPN, "") {
		t.Error("a person without a UPN has the empty one")
	}
}

func TestPinned(t *testing.T) {
	t.Parallel()
	public, err := oidc.NewKey(t, oidc.RS256, "k").MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{"keys":[` + string(public) + `]}`: "",
		`{"keys":[]}`:                       "0 keys",
		`[]`:                                "not a JSON Web Key Set",
		`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`:                      "only public keys",
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"!","use":"sig"}]}`: "key 1",
	} {
		_, err := caller.Pinned([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzPinned: a file of any content is read or refused.
func FuzzPinned(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","x5c":["AA=="]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, err := caller.Pinned(data); (k == nil) != (err != nil) {
			t.Errorf("%v, %v", k, err)
		}
	})
}
