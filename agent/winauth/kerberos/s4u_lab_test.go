//go:build !windows

package kerberos

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"

	"sallyport/agent/winauth/spnego"
	"sallyport/test/loud"
)

// delegate makes a Client for one of the lab's service accounts.
func delegate(t *testing.T, account string) *Client {
	t.Helper()
	loud.NeedsLab(t)
	raw, err := os.ReadFile(os.Getenv("KRB5_CONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	conf, err := ParseConf(raw)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{
		Conf: conf, Principal: Principal{Name: account, Realm: "CORP.EXAMPLE"}, Delegate: true,
		Keytab: filepath.Join(os.Getenv("ADLAB_KEYTABS"), account+".keytab"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// whoami is whom the lab's web server sees behind a ticket.
func whoami(c *Client, ticket *Ticket) (string, error) {
	x, token, err := c.Initiate(ticket, nil)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest(http.MethodGet, "http://"+os.Getenv("ADLAB_WEB")+"/kerb/whoami", nil)
	if err != nil {
		return "", err
	}
	req.Host = "intranet.corp.example"
	req.Header.Set("Authorization", "Negotiate "+base64.StdEncoding.EncodeToString(token))
	web := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := web.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d: %v", res.StatusCode, err)
	}
	proof, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(res.Header.Get("WWW-Authenticate"), "Negotiate "))
	if err != nil {
		return "", err
	}
	resp, err := spnego.ParseResp(proof)
	if err != nil {
		return string(b), x.Verify(proof)
	}
	return string(b), x.Verify(resp.Token)
}

func ticketFor(t *testing.T, c *Client, user Principal, spn string) (*User, *Ticket, error) {
	t.Helper()
	u, err := c.User(t.Context(), user)
	if err != nil {
		return nil, nil, err
	}
	ticket, err := c.TicketFor(t.Context(), u, spn)
	return u, ticket, err
}

// TestLabUser: the KDC's word about a person, read with a key of a keytab or of a password.
func TestLabUser(t *testing.T) {
	t.Parallel()
	c := delegate(t, "svc-gw")
	heidi, err := c.User(t.Context(), Principal{Name: "heidi", Realm: "CORP.EXAMPLE"})
	if err != nil {
		t.Fatal(err)
	}
	frank, err := c.User(t.Context(), Principal{Name: "frank", Realm: "CORP.EXAMPLE"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.User(t.Context(), Principal{Name: "HEIDI", Realm: "corp.example"})
	if err != nil || again != heidi {
		t.Errorf("asked twice: %v", err)
	}
	var accounts map[string]struct{ Password string }
	if text, err := os.ReadFile(os.Getenv("ADLAB_ACCOUNTS")); err != nil || json.Unmarshal(text, &accounts) != nil {
		t.Fatal(err)
	}
	cfg := c.cfg
	cfg.Keytab, cfg.Password = "", func() (string, error) { return accounts["svc-gw"].Password, nil }
	byPassword, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := byPassword.User(t.Context(), Principal{Name: "heidi", Realm: "CORP.EXAMPLE"}); err != nil || u.SID != heidi.SID {
		t.Errorf("opened with the password's key: %v, %v", u, err)
	}
	domain := heidi.SID[:strings.LastIndexByte(heidi.SID, '-')]
	switch {
	case !strings.HasPrefix(heidi.SID, "S-1-5-21-") || len(heidi.Groups) < 900 || !slices.Contains(heidi.Groups, domain+"-513"):
		t.Errorf("heidi: %s in %d groups", heidi.SID, len(heidi.Groups))
	case heidi.UPN != "heidi@corp.example":
		t.Errorf("heidi's user principal name is %q", heidi.UPN)
	case heidi.Sensitive || !heidi.Delegable() || !frank.Sensitive || frank.Delegable():
		t.Errorf("heidi is sensitive: %v, %v; frank: %v, %v", heidi.Sensitive, heidi.Delegable(), frank.Sensitive, frank.Delegable())
	}
}

func TestLabTicketFor(t *testing.T) {
	t.Parallel()
	c := delegate(t, "svc-gw")
	var all sync.WaitGroup
	for _, user := range []string{"alice", "bob", "carol", "heidi", "zoë"} {
		for range 3 {
			all.Go(func() {
				_, ticket, err := ticketFor(t, c, Principal{Name: user, Realm: "CORP.EXAMPLE"}, "HTTP/intranet.corp.example")
				if err != nil {
					t.Errorf("%s: %v", user, err)
					return
				}
				got, err := whoami(c, ticket)
				if err != nil || !strings.Contains(got, user+"@CORP.EXAMPLE") {
					t.Errorf("%s came out as %q, %v", user, got, err)
				}
			})
		}
	}
	all.Wait()
}

func TestLabTicketForRefused(t *testing.T) {
	t.Parallel()
	const intranet = "HTTP/intranet.corp.example"
	for _, test := range []struct {
		account, user, spn string
		enterprise         bool
		want               error
		code               int32
	}{
		{account: "svc-gw", user: "frank", spn: intranet, want: ErrNoTransition},
		{account: "svc-gw-kerb", user: "alice", spn: intranet, want: ErrNoTransition},
		{account: "svc-gw", user: "nobody@corp.example", enterprise: true, spn: intranet, code: errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN},
		{account: "svc-gw", user: "alice", spn: "HTTP/proxy.corp.example", code: errorcode.KDC_ERR_BADOPTION},
		{account: "svc-gw-none", user: "alice", spn: intranet, want: ErrNoTransition},
		{account: "svc-gw", user: "dave", spn: intranet, code: errorcode.KDC_ERR_POLICY},
		{account: "svc-gw", user: "grace", spn: intranet, code: errorcode.KDC_ERR_NAME_EXP},
		{account: "svc-gw", user: "nobody", spn: intranet, code: errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN},
	} {
		t.Run(test.account+" "+test.user+" "+test.spn, func(t *testing.T) {
			t.Parallel()
			c := delegate(t, test.account)
			user := Principal{Name: test.user, Realm: "CORP.EXAMPLE", Enterprise: test.enterprise}
			_, _, err := ticketFor(t, c, user, test.spn)
			t.Log(err)
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if test.code != 0 {
				if k, ok := errors.AsType[*KDCError](err); !ok || k.Code != test.code {
					t.Errorf("got %v, want code %d", err, test.code)
				}
			}
		})
	}
}

// TestLabEnterpriseNames: a user principal name leads to its account, under which services then see the person.
func TestLabEnterpriseNames(t *testing.T) {
	t.Parallel()
	c := delegate(t, "svc-gw")
	for upn, name := range map[string]string{
		"robert.brown@corp.example": "bob", "Robert.Brown@CORP.example": "bob", "carol@corp-mail.example": "carol", "zoë@corp.example": "zoë",
		"bob@corp.example": "bob", // not his user principal name: whoever wants one compares
	} {
		u, ticket, err := ticketFor(t, c, Principal{Name: upn, Realm: "CORP.EXAMPLE", Enterprise: true}, "HTTP/intranet.corp.example")
		if err != nil {
			t.Errorf("%s: %v", upn, err)
			continue
		}
		got, err := whoami(c, ticket)
		if err != nil || u.Account.String() != name+"@CORP.EXAMPLE" || !strings.Contains(got, name+"@CORP.EXAMPLE") {
			t.Errorf("%s is %s, and came out as %q, %v", upn, u, got, err)
		}
		t.Log(upn, u, u.UPN, u.SID)
	}
}
