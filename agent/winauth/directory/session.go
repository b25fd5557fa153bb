package directory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"

	"sallyport/agent/winauth/kerberos"
)

const (
	ldapPort = "389"
	// maxFrame bounds an encrypted message of a domain controller's; the answers here have a few hundred bytes.
	maxFrame = 1 << 20
	// maxGreeting bounds all that is read from one that has not proved itself.
	maxGreeting = 256 << 10
	// confidential is the security layer that is asked for (RFC 4752 section 3.3).
	confidential = 4
)

// A session is one connection to a domain controller.
type session struct {
	ldap *ldap.Conn
	wire *sealedConn
	stop func() bool
}

func (d *Directory) connect(ctx context.Context, host string) (*session, error) {
	within, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	raw, err := d.c.Dial(within, "tcp", net.JoinHostPort(host, ldapPort))
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(time.Now().Add(answerTimeout))
	s := &session{wire: &sealedConn{Conn: raw}}
	s.stop = context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	s.ldap = ldap.NewConn(s.wire, false)
	s.ldap.SetTimeout(answerTimeout)
	s.ldap.Start()
	return s, nil
}

func (s *session) close() {
	s.stop()
	_ = s.ldap.Close()
}

// signOn proves both sides and switches encryption on. It gives where the directory's tree begins.
func (s *session) signOn(ctx context.Context, client *kerberos.Client, realm string) (base string, err error) {
	res, err := s.ldap.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false,
		"(objectClass=*)", []string{"dnsHostName", "defaultNamingContext"}, nil))
	if err != nil {
		return "", fmt.Errorf("ask for its name: %w", err)
	}
	if len(res.Entries) != 1 {
		return "", errors.New("it does not say its name")
	}
	name := res.Entries[0].GetAttributeValue("dnsHostName")
	if name == "" || strings.ContainsAny(name, "/@\x00") {
		return "", errors.New("it does not say its name")
	}
	g := &gssapi{client: client}
	for _, spn := range spns(name, realm) {
		if g.ticket, err = client.Ticket(ctx, spn); err == nil {
			err = s.ldap.GSSAPIBind(g, spn, "")
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("sign on to %s: %w", name, err)
	}
	s.wire.seal(g.context)
	// The tree is that of the realm, whatever was said before the sign-on.
	return "DC=" + strings.Join(strings.Split(strings.ToLower(realm), "."), ",DC="), nil
}

// spns gives what a domain controller may be asked for as. Nobody has proved its name yet: the last part of the first makes it
// one that only this domain's controllers have. Not all domains register it (Samba does so by a service of its own); then it
// must at least be a host of this domain. What it says of people is held against the KDC's word; of groups it is not.
func spns(name, realm string) []string {
	domain := strings.ToLower(realm)
	out := []string{"ldap/" + name + "/" + domain}
	if strings.HasSuffix(strings.ToLower(name), "."+domain) {
		out = append(out, "ldap/"+name, "host/"+name)
	}
	return out
}

// gssapi signs on (RFC 4752). It implements ldap.GSSAPIClient.
type gssapi struct {
	client  *kerberos.Client
	ticket  *kerberos.Ticket
	context *kerberos.Context
}

func (g *gssapi) InitSecContext(spn string, token []byte) ([]byte, bool, error) {
	return g.InitSecContextWithOptions(spn, token, nil)
}

func (g *gssapi) InitSecContextWithOptions(_ string, token []byte, _ []int) (first []byte, more bool, err error) {
	if g.context != nil {
		return nil, false, g.context.Verify(token)
	}
	g.context, first, err = g.client.InitiateSealed(g.ticket)
	return first, true, err
}

func (g *gssapi) NegotiateSaslAuth(token []byte, _ string) ([]byte, error) {
	offer, _, err := g.context.Open(token)
	if err != nil {
		return nil, err
	}
	if len(offer) != 4 || offer[0]&confidential == 0 {
		return nil, errors.New("it offers no encryption (SASL confidentiality)")
	}
	return g.context.Sign(binary.BigEndian.AppendUint32(nil, confidential<<24|maxFrame))
}

func (g *gssapi) DeleteSecContext() error { return nil }

// A sealedConn is readable until seal is called, and encrypted from then on: four bytes of length, then a wrap token
// (RFC 4422 section 3.7).
type sealedConn struct {
	net.Conn
	context atomic.Pointer[kerberos.Context]
	greeted int    // bytes read before it was sealed
	raw     []byte // read and not yet a whole frame
	plain   []byte // decrypted and not yet taken
}

func (c *sealedConn) seal(x *kerberos.Context) { c.context.Store(x) }

// Read implements net.Conn. A read that was under way when the connection was sealed got what came after.
func (c *sealedConn) Read(p []byte) (int, error) {
	for len(c.plain) == 0 {
		n, err := c.Conn.Read(p)
		x := c.context.Load()
		if x == nil {
			if c.greeted += n; c.greeted > maxGreeting {
				return 0, errors.New("it says too much before it has proved itself")
			}
			return n, err
		}
		c.raw = append(c.raw, p[:n]...)
		if oerr := c.open(x); oerr != nil {
			return 0, oerr
		}
		if err != nil && len(c.plain) == 0 {
			return 0, err
		}
	}
	n := copy(p, c.plain)
	c.plain = c.plain[n:]
	return n, nil
}

// open decrypts the frames that are whole.
func (c *sealedConn) open(x *kerberos.Context) error {
	for len(c.raw) >= 4 {
		n := binary.BigEndian.Uint32(c.raw)
		if n > maxFrame {
			return fmt.Errorf("a message of %d bytes", n)
		}
		if len(c.raw) < 4+int(n) {
			return nil
		}
		msg, secret, err := x.Open(c.raw[4 : 4+n])
		if err != nil {
			return err
		}
		if !secret {
			return errors.New("a message that is not encrypted")
		}
		c.raw, c.plain = c.raw[4+n:], append(c.plain, msg...)
	}
	return nil
}

// Write implements net.Conn.
func (c *sealedConn) Write(p []byte) (int, error) {
	x := c.context.Load()
	if x == nil {
		return c.Conn.Write(p)
	}
	token, err := x.Seal(p)
	if err != nil {
		return 0, err
	}
	if _, err := c.Conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...)); err != nil {
		return 0, err
	}
	return len(p), nil
}
