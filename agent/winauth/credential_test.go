package winauth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/agent/winauth/ntlm"
	"sallyport/agent/winauth/spnego"
)

const testPassword = "Sup3r-Secret"

// noRealm is a Kerberos configuration that leads nowhere.
var noRealm = []byte("[libdefaults]\ndns_lookup_kdc = false\n") // read only

// deadRealm names a KDC at which nothing listens.
var deadRealm = []byte(`[libdefaults]
default_realm = CORP.EXAMPLE
dns_lookup_kdc = false
[realms]
CORP.EXAMPLE = {
  kdc = 127.0.0.1:9
}
`) // read only

func account(t *testing.T, o Options) Credential {
	t.Helper()
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	c, err := keyedAccount(o, Account{User: `CORP\svc`, Password: func() (string, error) { return testPassword, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPasswordIsNeverShown(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cred := account(t, Options{Krb5Text: deadRealm, Log: logger})
	h := cred.Handshake(Target{Host: "api"})
	if _, err := h.Ahead(t.Context()); err != nil {
		t.Fatal(err)
	}
	tok, err := h.Answer(t.Context(), []string{"Negotiate"})
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("text", "credential", cred, "handshake", h)
	slog.New(slog.NewTextHandler(&log, nil)).Info("text", "credential", cred)
	shown := log.String()
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		shown += fmt.Sprintf(f, cred) + fmt.Sprintf(f, h)
	}
	impl := h.(*handshake)
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		shown += fmt.Sprintf(f, impl.ntlm) + fmt.Sprintf(f, impl)
	}
	hash := ntlm.HashOf(testPassword)
	for _, secret := range []string{testPassword, fmt.Sprint(hash[:]), tok.Value} {
		if strings.Contains(shown, secret) {
			t.Errorf("shown: %q in %s", secret, shown)
		}
	}
	if !strings.Contains(shown, `CORP\svc`) {
		t.Error("the account's name is not shown either")
	}
}

func TestConstructorsRefuse(t *testing.T) {
	t.Parallel()
	pw := func() (string, error) { return testPassword, nil }
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"no secret": func() error {
			_, err := keyedAccount(Options{Krb5Text: deadRealm}, Account{User: "svc"})
			return err
		},
		"two secrets": func() error {
			_, err := keyedAccount(Options{Krb5Text: deadRealm}, Account{User: "svc", Password: pw, Keytab: "x"})
			return err
		},
		"bad name": func() error {
			_, err := keyedAccount(Options{Krb5Text: deadRealm}, Account{User: `\svc`, Password: pw})
			return err
		},
		"kerberos without a realm": func() error {
			_, err := keyedAccount(Options{Krb5Text: noRealm, Protocol: Kerberos}, Account{User: "svc", Password: pw})
			return err
		},
		"NTLM from a keytab": func() error {
			_, err := keyedService(Options{Krb5Text: deadRealm, Protocol: NTLM}, ServiceSource{Keytab: empty})
			return err
		},
		"no such keytab": func() error {
			_, err := keyedService(Options{Krb5Text: deadRealm}, ServiceSource{Keytab: empty + "x"})
			return err
		},
		"empty keytab": func() error {
			_, err := keyedService(Options{Krb5Text: deadRealm}, ServiceSource{Keytab: empty})
			return err
		},
		"empty cache": func() error {
			_, err := keyedService(Options{Krb5Text: deadRealm}, ServiceSource{CCache: empty})
			return err
		},
		"cache of another kind": func() error {
			_, err := keyedService(Options{Krb5Text: deadRealm}, ServiceSource{CCache: "KEYRING:persistent:0"})
			return err
		},
		"broken krb5.conf": func() error {
			_, err := keyedAccount(Options{Krb5Text: []byte("[realms]\nX {\n}\n")}, Account{User: "svc", Password: pw})
			return err
		},
	} {
		if err := f(); err == nil {
			t.Errorf("%s: taken", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

func kindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

// challengeText is an acceptor's answer to type 1, raw or inside SPNEGO.
func challengeText(t *testing.T, tok Token, wrap bool) string {
	t.Helper()
	scheme, text, _ := strings.Cut(tok.Value, " ")
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	if spnego.IsInit(raw) {
		init, err := spnego.ParseInit(raw)
		if err != nil {
			t.Fatal(err)
		}
		raw = init.Token
	}
	_, challenge, err := (&ntlm.Verifier{Domain: "CORP"}).Challenge(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	if wrap {
		challenge, err = spnego.Resp{State: spnego.Incomplete, Mech: spnego.NTLM, Token: challenge}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
	}
	return header(scheme, challenge)
}

func TestLegs(t *testing.T) {
	t.Parallel()
	o := Options{Krb5Text: noRealm}
	t.Run("wrapped first, then raw, then an end", func(t *testing.T) {
		t.Parallel()
		h := account(t, o).Handshake(Target{Host: "api"})
		var tok Token
		var err error
		for i, opening := range []bool{true, true} {
			if tok, err = h.Answer(t.Context(), []string{"Negotiate", "NTLM"}); err != nil || tok.Opening != opening {
				t.Fatalf("leg %d: %+v, %v", i, tok.Opening, err)
			}
		}
		if tok, err = h.Answer(t.Context(), []string{challengeText(t, tok, false)}); err != nil || tok.Opening {
			t.Fatalf("type 3: %v", err)
		}
		if _, err = h.Answer(t.Context(), []string{"Negotiate"}); kindOf(err) != Rejected {
			t.Errorf("after type 3: %v", err)
		}
		if _, again := h.Answer(t.Context(), []string{"Negotiate"}); again == nil {
			t.Error("a failed handshake goes on")
		}
	})
	t.Run("a server that always has a new challenge", func(t *testing.T) {
		t.Parallel()
		h := account(t, o).Handshake(Target{Host: "api"})
		values := []string{"NTLM"}
		for i := 0; ; i++ {
			tok, err := h.Answer(t.Context(), values)
			if err != nil {
				if kindOf(err) != Rejected || i != 2 {
					t.Errorf("ends with %v after %d tokens", err, i)
				}
				return
			}
			if tok.Opening {
				values = []string{challengeText(t, tok, false)}
			}
		}
	})
	for name, c := range map[string]struct {
		values []string
		kind   Kind
	}{
		"nothing":          {nil, NotOffered},
		"basic only":       {[]string{`Basic realm="Negotiate"`}, NotOffered},
		"garbage for NTLM": {[]string{"NTLM AAAA"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := account(t, o).Handshake(Target{Host: "api"}).Answer(t.Context(), c.values)
			if kindOf(err) != c.kind {
				t.Errorf("%v", err)
			}
		})
	}
	for name, answer := range map[string]string{
		"Base64":       "Negotiate !",
		"garbage":      "Negotiate AAAA",
		"cut SPNEGO":   "Negotiate oYGC",
		"no challenge": "Negotiate oQcwBaADCgEB",
	} {
		t.Run("bad token: "+name, func(t *testing.T) {
			t.Parallel()
			h := account(t, o).Handshake(Target{Host: "api"})
			if _, err := h.Answer(t.Context(), []string{"Negotiate"}); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Answer(t.Context(), []string{answer}); kindOf(err) != BadToken {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestRequiredBindingStopsBeforeAnyToken(t *testing.T) {
	t.Parallel()
	asked := false
	cred, err := keyedAccount(Options{Krb5Text: deadRealm, ChannelBinding: BindingRequire}, Account{
		User: `CORP\svc`, Password: func() (string, error) { asked = true; return testPassword, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	h := cred.Handshake(Target{Host: "api"})
	if _, err := h.Ahead(t.Context()); kindOf(err) != NoBinding {
		t.Errorf("%v", err)
	}
	if asked {
		t.Error("the password was fetched for nothing")
	}
}

func TestNoFallback(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"kerberos": {Krb5Text: deadRealm, Protocol: Kerberos},
		"mutual":   {Krb5Text: deadRealm, Mutual: true},
	} {
		for _, offer := range [][]string{{"Negotiate", "NTLM"}, {"Negotiate"}} {
			_, err := account(t, o).Handshake(Target{Host: "api"}).Answer(t.Context(), offer)
			if kindOf(err) != KDCUnreachable {
				t.Errorf("%s, %v: %v", name, offer, err)
			}
		}
		if _, err := account(t, o).Handshake(Target{Host: "api"}).Answer(t.Context(), []string{"NTLM"}); kindOf(err) != NotOffered {
			t.Errorf("%s, NTLM only: %v", name, err)
		}
	}
}

func TestMutualWithoutAQuestion(t *testing.T) {
	t.Parallel()
	h := account(t, Options{Krb5Text: deadRealm, Mutual: true}).Handshake(Target{Host: "api"})
	if err := h.Finish(nil); kindOf(err) != NotMutual {
		t.Errorf("%v", err)
	}
	h = account(t, Options{Krb5Text: deadRealm}).Handshake(Target{Host: "api"})
	if err := h.Finish(nil); err != nil || h.Protocol() != "" {
		t.Errorf("%v, %q", err, h.Protocol())
	}
}
