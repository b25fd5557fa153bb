package agent

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"sallyport/agent/caller"
	"sallyport/agent/upstream"
	"sallyport/agent/winauth"
)

// acting is a Delegation that knows one person.
type acting struct{ asked []winauth.Person }

func (a *acting) For(_ context.Context, p winauth.Person) (winauth.Credential, error) {
	a.asked = append(a.asked, p)
	if p.UPN == "anna@corp.example" {
		return nil, nil
	}
	return nil, &winauth.PersonError{Person: p, Reason: "the domain has no such account"}
}

// TestActsForTheProvedAlone: without a person in the context nobody is asked for, whatever the request says.
func TestActsForTheProvedAlone(t *testing.T) {
	t.Parallel()
	who := &acting{}
	p := &people{acts: who}
	r, err := http.NewRequest(http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer x")
	r.SetBasicAuth("anna@corp.example", "p")
	_, err = p.signOn(r)
	if e, ok := errors.AsType[*upstream.Error](err); !ok || e.Kind != upstream.NoIdentity || !e.NotRun || len(who.asked) != 0 {
		t.Fatalf("%v, asked for %v", err, who.asked)
	}
	for upn, want := range map[string]upstream.Kind{"anna@corp.example": "", "mallory@corp.example": upstream.PersonRefused} {
		ctx, err := withPerson(t.Context(), &caller.Principal{UPN: upn, SID: "S-1-5-21-1-2-3-4"})
		if err != nil {
			t.Fatal(err)
		}
		sign, err := p.signOn(r.WithContext(ctx))
		e, _ := errors.AsType[*upstream.Error](err)
		if want == "" && (err != nil || sign.Mode != asCaller || !sign.Named) || want != "" && (e == nil || e.Kind != want || !e.NotRun || !e.Here) {
			t.Errorf("%s: %+v, %v", upn, sign, err)
		}
		if last := who.asked[len(who.asked)-1]; last != (winauth.Person{SID: "S-1-5-21-1-2-3-4", UPN: upn}) {
			t.Errorf("asked for %v", last)
		}
	}
	for _, nobody := range []*caller.Principal{{App: true, UPN: "anna@corp.example"}, {ObjectID: "o"}} {
		if ctx, err := withPerson(t.Context(), nobody); err == nil || ctx != nil {
			t.Errorf("%+v is a person", nobody)
		}
	}
}

func TestActForConfig(t *testing.T) {
	t.Parallel()
	const head = "relay: https://relay.example.com\ngateway: plant1\n"
	const proves = "callers: {issuer: https://login.example.com, audience: orders}\n"
	file := func(top, windows string) string {
		return head + top + "apis:\n  - name: orders\n    url: https://erp.corp.example\n    auth: {windows: {" + windows + "}}\n    allow: [GET /**]\n"
	}
	for text, want := range map[string]string{
		file(proves, "as: caller"): "",
		file(proves, `as: caller, keytab: k, principal: svc, callers: {allow_groups: ['CORP\Orders'], deny_groups: [S-1-5-21-1-2-3-4], upn_suffixes: [corp.example]}`): "",
		file(proves, "as: caller, account: svc@corp.example, secret: gw"):                                                                                              "",
		file("", "as: caller"):                                                          "needs callers",
		file(proves, "as: caller, ccache: c"):                                           "account's own key",
		file(proves, "as: caller, protocol: ntlm"):                                      "Kerberos alone",
		file(proves, "as: caller, secret: gw"):                                          "account is missing",
		file(proves, "as: caller, account: svc@corp.example, principal: p, secret: gw"): "principal",
		file(proves, "as: caller, callers: {allow_groups: ['']}"):                       "is empty",
		file(proves, "as: service, callers: {allow_groups: [x]}"):                       "says for whom as: caller acts",
		file(proves, "as: service, callers: {domains: [emea.corp.example]}"):            "says for whom as: caller acts",
		file(proves, "as: caller, callers: {domains: ['*.corp.example']}"):              "is not the name of a domain",
		file(proves, "as: caller, callers: {domains: ['EMEA\\x']}"):                     "is not the name of a domain",
	} {
		_, err := ParseConfig("agent.yaml", []byte(text))
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v", text, err)
		}
	}
}
