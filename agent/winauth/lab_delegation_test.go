package winauth

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sallyport/agent/winauth/directory"
	"sallyport/agent/winauth/kerberos"
	"sallyport/test/loud"
)

// liar is a directory that gives everybody the same account.
type liar struct{ directory.Account }

func (l liar) BySID(context.Context, string) (directory.Account, error) { return l.Account, nil }
func (l liar) Group(context.Context, string) (string, error)            { return l.SID, nil }

func labDelegation(t *testing.T) *Delegation {
	t.Helper()
	loud.NeedsLab(t)
	d, err := NewDelegation(Options{Krb5Config: os.Getenv("KRB5_CONFIG")}, DelegationConfig{Service: ServiceSource{
		Keytab: filepath.Join(os.Getenv("ADLAB_KEYTABS"), "svc-gw.keytab"), Principal: "svc-gw@CORP.EXAMPLE",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestLabDirectoryThatLies: whom the directory names is held against the domain controller's ticket.
func TestLabDirectoryThatLies(t *testing.T) {
	t.Parallel()
	d := labDelegation(t)
	acts := d.acts.(*transition)
	alice, err := acts.krb.User(t.Context(), kerberos.Principal{Name: "alice", Realm: acts.realm})
	if err != nil {
		t.Fatal(err)
	}
	bob, err := acts.krb.User(t.Context(), kerberos.Principal{Name: "bob", Realm: acts.realm})
	if err != nil {
		t.Fatal(err)
	}
	acts.dir = liar{directory.Account{Name: "alice", SID: bob.SID}}
	for _, p := range []Person{{SID: bob.SID}, {SID: bob.SID, UPN: "alice@corp.example"}} {
		c, err := d.For(t.Context(), p)
		if _, refused := errors.AsType[*PersonError](err); !refused || c != nil {
			t.Errorf("%+v: %v, %v", p, c, err)
		}
	}
	if c, err := d.For(t.Context(), Person{SID: alice.SID}); err != nil || c.Identity() != "alice@CORP.EXAMPLE" {
		t.Errorf("where it tells the truth: %v, %v", c, err)
	}
	if c, err := d.For(t.Context(), Person{UPN: "robert.brown@corp.example"}); err != nil || c.Identity() != "bob@CORP.EXAMPLE" {
		t.Errorf("where it is not asked: %v, %v", c, err)
	}
}

// TestLabDelegationKeeps: names and tickets are asked for once, and serve on while nobody answers.
func TestLabDelegationKeeps(t *testing.T) {
	t.Parallel()
	d := labDelegation(t)
	first, err := d.For(t.Context(), Person{UPN: "carol@corp-mail.example"})
	if err != nil {
		t.Fatal(err)
	}
	ticket := func(c Credential) string {
		h := c.Handshake(Target{Host: "intranet.corp.example"})
		token, err := h.Ahead(t.Context())
		if err != nil || token.Value == "" {
			t.Fatalf("%v", err)
		}
		return token.Value
	}
	_ = ticket(first)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // from here on, whatever is asked fails
	again, err := d.For(ctx, Person{UPN: "Carol@corp-mail.example"})
	if err != nil || again.Identity() != first.Identity() {
		t.Fatalf("%v, %v", again, err)
	}
	h := again.Handshake(Target{Host: "intranet.corp.example"})
	if token, err := h.Ahead(ctx); err != nil || token.Value == "" {
		t.Errorf("%v", err)
	}
	if _, err := d.For(ctx, Person{UPN: "alice@corp.example"}); err == nil {
		t.Error("somebody new was got from nobody")
	}
}
