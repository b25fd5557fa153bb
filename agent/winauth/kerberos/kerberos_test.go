package kerberos

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"sallyport/agent/winauth/spnego"
)

// oneKDC names two addresses, which the tests' Dial gives a meaning.
const confText = `[libdefaults]
  default_realm = CORP.EXAMPLE
  dns_lookup_kdc = false
[realms]
  CORP.EXAMPLE = {
    kdc = first.test
    kdc = second.test:1088
  }
[domain_realm]
  .other.example = CORP.EXAMPLE
`

func testConf(t testing.TB) *Conf {
	t.Helper()
	c, err := ParseConf([]byte(confText))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// kdc answers each message on a connection of its own by what reply says; it counts them.
type kdc struct {
	mu    sync.Mutex // guards seen
	seen  map[string]int
	reply func(address string, msg []byte) []byte // nil: silence
	ended sync.WaitGroup
}

func (k *kdc) dial(_ context.Context, _, address string) (net.Conn, error) {
	k.mu.Lock()
	if k.seen == nil {
		k.seen = make(map[string]int)
	}
	k.seen[address]++
	k.mu.Unlock()
	here, there := net.Pipe()
	k.ended.Go(func() {
		defer there.Close()
		var n [4]byte
		if _, err := io.ReadFull(there, n[:]); err != nil {
			return
		}
		msg := make([]byte, binary.BigEndian.Uint32(n[:]))
		if _, err := io.ReadFull(there, msg); err != nil {
			return
		}
		if r := k.reply(address, msg); r != nil {
			_, _ = there.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(r))), r...))
			return
		}
		_, _ = io.Copy(io.Discard, there) // silence, until the other side gives up
	})
	return here, nil
}

func krbError(t testing.TB, code int32) []byte {
	t.Helper()
	e := messages.NewKRBError(krbtgt("CORP.EXAMPLE"), "CORP.EXAMPLE", code, "text\r\nof the KDC")
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newClient(t testing.TB, k *kdc) *Client {
	t.Helper()
	c, err := New(Config{
		Conf: testConf(t), Principal: Principal{Name: "svc", Realm: "CORP.EXAMPLE"}, Dial: k.dial,
		Password: func() (string, error) { return "password", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFailOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &kdc{reply: func(address string, _ []byte) []byte {
			if address == "first.test:88" {
				return nil
			}
			return krbError(t, errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN)
		}}
		c := newClient(t, k)
		for want := range 3 { // the silent one costs its time once: then the good one is asked first
			start := time.Now()
			err := c.Logon(t.Context())
			e, ok := errors.AsType[*KDCError](err)
			if !ok || e.Code != errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN {
				t.Fatal(err)
			}
			if took := time.Since(start); (want == 0) != (took == answerTimeout) {
				t.Errorf("logon %d took %s", want, took)
			}
		}
		k.ended.Wait()
		if k.seen["first.test:88"] != 1 || k.seen["second.test:1088"] != 3 {
			t.Errorf("asked %v", k.seen)
		}
		if err := c.Logon(t.Context()); strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("foreign text reaches the log: %q", err)
		}
		k.ended.Wait()
	})
}

func TestAllSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &kdc{reply: func(string, []byte) []byte { return nil }}
		c := newClient(t, k)
		start := time.Now()
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				if _, err := c.Ticket(t.Context(), "HTTP/api"); err == nil {
					t.Error("a ticket out of nowhere")
				} else if e, ok := errors.AsType[*UnreachableError](err); !ok || len(e.Tried) != 2 {
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took != exchangeTimeout {
			t.Errorf("32 at once waited %s, want %s", took, exchangeTimeout)
		}
		if k.seen["first.test:88"] != 1 {
			t.Errorf("asked %v", k.seen)
		}
		if _, err := c.Ticket(t.Context(), "HTTP/api"); err == nil || time.Since(start) != exchangeTimeout {
			t.Errorf("right after: %v after %s", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		time.Sleep(unreachableHold)
		start = time.Now()
		if _, err := c.Ticket(ctx, "HTTP/api"); err == nil || time.Since(start) > time.Second {
			t.Errorf("the caller's context does not end it: %v after %s", err, time.Since(start))
		}
		k.ended.Wait()
	})
}

// TestWrongPasswordOnce: the KDC counts wrong passwords, so the same one is not shown to it again.
func TestWrongPasswordOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &kdc{reply: func(string, []byte) []byte { return krbError(t, errorcode.KDC_ERR_PREAUTH_FAILED) }}
		c := newClient(t, k)
		password := "one"
		c.cfg.Password = func() (string, error) { return password, nil }
		for range 5 {
			if err := c.Logon(t.Context()); err == nil {
				t.Fatal("logged on")
			}
		}
		if n := k.seen["first.test:88"]; n != 1 {
			t.Errorf("one password: %d questions", n)
		}
		password = "two"
		if err := c.Logon(t.Context()); err == nil || k.seen["first.test:88"] != 2 {
			t.Errorf("another password is not tried: %v, %v", err, k.seen)
		}
		time.Sleep(badSecretHold + time.Second)
		if err := c.Logon(t.Context()); err == nil || k.seen["first.test:88"] != 3 {
			t.Errorf("not tried after the hold: %v, %v", err, k.seen)
		}
		k.ended.Wait()
	})
}

// TestBadAnswers: whatever a KDC sends, there is an error and no panic.
func TestBadAnswers(t *testing.T) {
	t.Parallel()
	for _, reply := range [][]byte{{0}, {0x7e}, {0x7e, 0x84, 0xff, 0xff, 0xff, 0xff}, []byte("HTTP/1.1 400 Bad Request\r\n"), make([]byte, 4096)} {
		k := &kdc{reply: func(string, []byte) []byte { return reply }}
		if err := newClient(t, k).Logon(t.Context()); err == nil {
			t.Errorf("%x is an answer", reply[:1])
		}
		k.ended.Wait()
	}
}

func TestConf(t *testing.T) {
	t.Parallel()
	c := testConf(t)
	for in, want := range map[string]string{
		"": "CORP.EXAMPLE", "corp": "CORP.EXAMPLE", "Corp.Example": "CORP.EXAMPLE", "a.other.example": "CORP.EXAMPLE",
		"elsewhere": "", "corp-mail.example": "",
	} {
		if got := c.RealmFor(in); got != want {
			t.Errorf("RealmFor(%q) = %q, want %q", in, got, want)
		}
	}
	got, err := c.kdcs(t.Context(), "CORP.EXAMPLE")
	if err != nil || strings.Join(got, " ") != "first.test:88 second.test:1088" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := c.kdcs(t.Context(), "NOWHERE.EXAMPLE"); err == nil {
		t.Error("a realm without KDCs has some")
	}
	for in, want := range map[string]string{
		"kdc": "kdc:88", "kdc:750": "kdc:750", "[::1]:88": "[::1]:88", "[::1]": "[::1]:88", "tcp/kdc:88": "kdc:88",
		"udp/kdc": "", "https://kdc/": "", "": "",
	} {
		if got, _ := kdcAddress(in); got != want {
			t.Errorf("kdcAddress(%q) = %q, want %q", in, got, want)
		}
	}
	if c, err := LoadConf(filepath.Join(t.TempDir(), "none")); err != nil || !c.dns {
		t.Errorf("an absent file: %v", err)
	}
}

func TestKeytab(t *testing.T) {
	t.Parallel()
	kt := keytab.New()
	for kvno, at := range map[uint8]time.Time{3: time.Unix(2e9, 0), 7: time.Unix(1e9, 0)} {
		if err := kt.AddEntry("svc", "CORP.EXAMPLE", fmt.Sprint("password", kvno), at, kvno, etypeID.AES256_CTS_HMAC_SHA1_96); err != nil {
			t.Fatal(err)
		}
	}
	b, err := kt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keytab")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := KeytabPrincipal(path)
	if err != nil || p != (Principal{Name: "svc", Realm: "CORP.EXAMPLE"}) {
		t.Fatalf("%+v, %v", p, err)
	}
	loaded, _, err := loadKeytab(path)
	if err != nil {
		t.Fatal(err)
	}
	m := &material{keytab: loaded}
	if _, err := m.key(Principal{Name: "SVC", Realm: "corp.example"}, offer{etype: etypeID.AES256_CTS_HMAC_SHA1_96}); err != nil || m.kvno != 7 {
		t.Errorf("key version %d, %v: want the highest, whatever its date", m.kvno, err)
	}
	if _, err := m.key(p, offer{etype: etypeID.RC4_HMAC}); !errors.Is(err, ErrNoKey) {
		t.Errorf("%v", err)
	}
	if has, err := KeytabHas(path, Principal{Name: "other", Realm: "CORP.EXAMPLE"}); has || err != nil {
		t.Errorf("%v, %v", has, err)
	}
}

func TestAbsurdWork(t *testing.T) {
	t.Parallel()
	m := &material{password: "x"}
	_, err := m.key(Principal{Name: "svc", Realm: "R"}, offer{etype: etypeID.AES256_CTS_HMAC_SHA1_96, params: []byte{0xff, 0xff, 0xff, 0xff}})
	if err == nil {
		t.Error("four thousand million rounds are done")
	}
}

// ticketWith is a ticket that never was at a KDC, for tests of what follows.
func ticketWith(t testing.TB) *Ticket {
	t.Helper()
	return &Ticket{spn: "HTTP/api", cred: &credential{
		key:    types.EncryptionKey{KeyType: etypeID.AES256_CTS_HMAC_SHA1_96, KeyValue: make([]byte, 32)},
		cname:  types.PrincipalName{NameType: 1, NameString: []string{"svc"}},
		crealm: "CORP.EXAMPLE", end: time.Now().Add(time.Hour),
		ticket: messages.Ticket{
			TktVNO: 5, Realm: "CORP.EXAMPLE", SName: types.PrincipalName{NameType: 2, NameString: []string{"HTTP", "api"}},
			EncPart: types.EncryptedData{EType: etypeID.AES256_CTS_HMAC_SHA1_96, Cipher: []byte("sealed for the service")},
		},
	}}
}

func TestAuthenticatorsDiffer(t *testing.T) {
	t.Parallel()
	c := newClient(t, &kdc{})
	now := time.Now()
	c.clock = func() time.Time { return now }
	seen := make(map[time.Time]bool)
	for range 100 {
		x, _, err := c.Initiate(ticketWith(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		if seen[x.sent] {
			t.Fatalf("two authenticators of %s", x.sent)
		}
		seen[x.sent] = true
	}
}

func TestTablesAreBounded(t *testing.T) {
	t.Parallel()
	c := newClient(t, &kdc{})
	for i := range 3 * maxEntries {
		spn := fmt.Sprint("HTTP/", i)
		kept(t, c, spn)
		c.remember(spn, "kdc")
		c.judge([32]byte{byte(i), byte(i >> 8)}, &KDCError{Code: errorcode.KDC_ERR_PREAUTH_FAILED})
	}
	if c.services.Len() > maxEntries || len(c.good) > maxEntries || len(c.bad) > maxEntries {
		t.Errorf("%d tickets, %d KDCs, %d secrets", c.services.Len(), len(c.good), len(c.bad))
	}
}

// kept puts a ticket into the table as the KDC's answer would.
func kept(t *testing.T, c *Client, spn string) *Ticket {
	t.Helper()
	k := ticketWith(t)
	k.key, k.got = spn, time.Now()
	if _, err := c.services.Get(t.Context(), spn, func(context.Context) (*Ticket, error) { return k, nil }); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestForget(t *testing.T) {
	t.Parallel()
	c := newClient(t, &kdc{})
	k := kept(t, c, "http/api")
	if c.Forget(k) {
		t.Error("a fresh ticket is replaced: the server would be asked without end")
	}
	k.got = time.Now().Add(-time.Hour)
	if !c.Forget(k) || c.services.Len() != 0 {
		t.Error("an old ticket stays")
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	c := newClient(t, &kdc{})
	x, token, err := c.Initiate(ticketWith(t), []byte("binding"))
	if err != nil {
		t.Fatal(err)
	}
	frame := func(kind uint16, body []byte) []byte {
		b, err := spnego.Frame(spnego.Kerberos, append(binary.BigEndian.AppendUint16(nil, kind), body...))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "our own token": token, "no body": frame(tokAPRep, nil), "garbage": frame(tokAPRep, make([]byte, 100)),
		"unknown kind": frame(0x0999, nil), "damaged error": frame(tokError, []byte{0x7e, 1}),
	} {
		if err := x.Verify(b); err == nil {
			t.Errorf("%s is taken for a proof", name)
		}
	}
	var e *KDCError
	if err := x.Verify(frame(tokError, krbError(t, errorcode.KRB_AP_ERR_MODIFIED))); !errors.As(err, &e) || e.Step != StepServer {
		t.Errorf("KRB-ERROR: %v", err)
	}
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte{5, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 'R', 0, 0, 0, 1, 'a'})
	f.Add([]byte{5, 2, 0, 0, 0, 9, 0, 1, 0, 1, 'R', 0, 1, 'a', 0})
	f.Add([]byte(confText))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = CachePrincipal(path)
		_, _ = KeytabPrincipal(path)
		_, _ = ParseConf(b)
	})
}

func FuzzMessages(f *testing.F) {
	c := newClient(f, &kdc{})
	x, token, err := c.Initiate(ticketWith(f), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add(krbError(f, errorcode.KDC_ERR_PREAUTH_REQUIRED))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = x.Verify(b)
		_ = x.verifyReply(b)
		_ = parseKRBError(b, StepLogon, "svc", time.Time{})
		body := c.body("CORP.EXAMPLE", types.PrincipalName{}, krbtgt("CORP.EXAMPLE"), c.conf.etypes())
		if _, err := c.openAS(b, body, &material{password: "x"}); err == nil {
			t.Error("an AS-REP from nowhere is taken")
		}
		if _, err := c.openTGS(b, body, x.ticket.cred); err == nil {
			t.Error("a TGS-REP from nowhere is taken")
		}
	})
}
