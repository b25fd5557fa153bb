//go:build !windows

package directory

import (
	"errors"
	"os"
	"os/exec"
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
	sidOf := func(name string) string {
		out, err := exec.Command("wbinfo", "--name-to-sid", `CORP\`+name).Output()
		sid, _, _ := strings.Cut(string(out), " ")
		if err != nil || !IsSID(sid) {
			t.Fatalf("wbinfo: %v: %s", err, out)
		}
		return sid
	}
	for _, name := range []string{"bob", "alice", "zoë"} {
		sid := sidOf(name)
		if a, err := d.BySID(t.Context(), sid); err != nil || a.Name != name || a.SID != sid {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	for sid, want := range map[string]string{
		sidOf("dave"): "disabled", sidOf("Domain Admins"): "no such person", sidOf("alice") + "99": "no such person", "S-1-5-32-544": "no such person",
		"*": "no SID", "S-1-5-21-1)(cn=*": "no SID", "": "no SID", "alice": "no SID",
	} {
		a, err := d.BySID(t.Context(), sid)
		if _, ok := errors.AsType[*NotFound](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", sid, a, err)
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
