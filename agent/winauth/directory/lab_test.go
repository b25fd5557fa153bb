//go:build !windows

package directory

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/agent/winauth/kerberos"
	"sallyport/test/loud"
)

func lab(t *testing.T) *Directory {
	t.Helper()
	loud.NeedsLab(t)
	raw, err := os.ReadFile(os.Getenv("KRB5_CONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	conf, err := kerberos.ParseConf(raw)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kerberos.New(kerberos.Config{
		Conf: conf, Principal: kerberos.Principal{Name: "svc-gw", Realm: "CORP.EXAMPLE"},
		Keytab: filepath.Join(os.Getenv("ADLAB_KEYTABS"), "svc-gw.keytab"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Client: client, Realm: "CORP.EXAMPLE", Controllers: conf.Controllers})
}

func TestLabPeople(t *testing.T) {
	t.Parallel()
	d := lab(t)
	for upn, want := range map[string]string{
		"robert.brown@corp.example": "bob", "Robert.Brown@CORP.example": "bob", "carol@corp-mail.example": "carol",
		"alice@corp.example": "alice", "zoë@corp.example": "zoë",
	} {
		a, err := d.ByUPN(t.Context(), upn)
		if err != nil || a.Name != want || !IsSID(a.SID) {
			t.Errorf("%s: %+v, %v", upn, a, err)
			continue
		}
		if again, err := d.BySID(t.Context(), a.SID); err != nil || again != a {
			t.Errorf("%s: %+v, %v", a.SID, again, err)
		}
	}
	for upn, want := range map[string]string{
		"nobody@corp.example": "no such person", "bob@corp.example": "no such person", "dave@corp.example": "disabled",
		"*@corp.example": "no such person", "alice)(cn=*@corp.example": "no such person", "alice": "no user principal name",
		"alice@elsewhere.example": "no such person", "svc-gw$@corp.example": "no such person",
	} {
		a, err := d.ByUPN(t.Context(), upn)
		if _, ok := errors.AsType[*NotFound](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", upn, a, err)
		}
	}
}

func TestLabGroups(t *testing.T) {
	t.Parallel()
	d := lab(t)
	sid, err := d.Group(t.Context(), `CORP\Domain Admins`)
	if err != nil || !strings.HasSuffix(sid, "-512") {
		t.Errorf("%q, %v", sid, err)
	}
	if sid, err := d.Group(t.Context(), "No Such Group"); err == nil {
		t.Errorf("no such group has the SID %s", sid)
	}
}

func TestLabLockoutPolicy(t *testing.T) {
	t.Parallel()
	p, err := lab(t).Lockout(t.Context())
	if err != nil || p.Threshold != 10 || p.Window != 45*time.Minute {
		t.Errorf("%+v, %v", p, err)
	}
}
