package directory

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"sallyport/agent/winauth/kerberos"
)

// hostile is a Directory whose domain controller is the test's own.
func hostile(t *testing.T, speak func(net.Conn)) *Directory {
	t.Helper()
	conf, err := kerberos.ParseConf([]byte("[libdefaults]\n default_realm = CORP.EXAMPLE\n dns_lookup_kdc = false\n[realms]\n CORP.EXAMPLE = {\n kdc = dc.test\n }\n"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := kerberos.New(kerberos.Config{
		Conf: conf, Principal: kerberos.Principal{Name: "svc", Realm: "CORP.EXAMPLE"}, Password: func() (string, error) { return "p", nil },
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("there is no KDC") },
	})
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	t.Cleanup(ended.Wait)
	return New(Config{
		Client: client, Realm: "CORP.EXAMPLE", Controllers: conf.Controllers,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			ended.Go(func() {
				defer there.Close()
				ended.Go(func() { _, _ = io.Copy(io.Discard, there) })
				speak(there)
			})
			return here, nil
		},
	})
}

// TestHostileControllers: one that has not proved itself costs little memory, no panic and no wait without an end.
func TestHostileControllers(t *testing.T) {
	t.Parallel()
	for name, speak := range map[string]func(net.Conn){
		"hangs up": func(net.Conn) {},
		"no LDAP":  func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"a name without end": func(c net.Conn) {
			// An LDAPMessage of 1 GB, whose octet string is as long.
			_, _ = c.Write([]byte{0x30, 0x84, 0x40, 0, 0, 0, 0x02, 0x01, 0x01, 0x04, 0x84, 0x3f, 0xff, 0xff, 0xf0})
			for junk := []byte(strings.Repeat("x", 32<<10)); ; {
				if _, err := c.Write(junk); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := hostile(t, speak)
			a, err := d.BySID(t.Context(), "S-1-5-21-1-2-3-1104")
			if _, gone := errors.AsType[*Unreachable](err); !gone {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
}

// TestTooMuchBeforeProof: the connection itself ends what is said without a proof.
func TestTooMuchBeforeProof(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	c := &sealedConn{Conn: here}
	var ended sync.WaitGroup
	ended.Go(func() {
		for junk := make([]byte, 4096); ; {
			if _, err := there.Write(junk); err != nil {
				return
			}
		}
	})
	n, err := io.Copy(io.Discard, c)
	if err == nil || n > maxGreeting {
		t.Errorf("%d bytes, %v", n, err)
	}
	_ = here.Close()
	ended.Wait()
}
