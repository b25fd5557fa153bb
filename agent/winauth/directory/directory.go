// Package directory asks Active Directory for what no KDC tells: the account of a SID, the SID of a group that a configuration
// names, and when the domain locks accounts.
//
// It speaks LDAP to a domain controller. Both sides prove themselves by Kerberos, and all that follows is encrypted with the
// session's key (SASL GSSAPI with confidentiality, RFC 4752): no certificates are needed, and a controller that demands signed
// LDAP is content. It changes nothing and keeps nothing; each question is a connection of its own.
package directory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"sallyport/agent/winauth/kerberos"
)

const (
	connectTimeout = 3 * time.Second
	// answerTimeout is for all that is said to one domain controller.
	answerTimeout = 10 * time.Second
	// maxHits: two are enough to know that a name is not unique, and disabled ones do not count.
	maxHits = 16
)

// Config is what a Directory needs.
type Config struct {
	// Client is the account that asks, and Realm its domain.
	Client *kerberos.Client
	Realm  string
	// Controllers gives the domain controllers' hosts, the ones to be asked first first.
	Controllers func(ctx context.Context, realm string) ([]string, error)
	// Dial opens connections; nil is net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Directory answers questions. Safe for concurrent use.
type Directory struct{ c Config }

// An Account is a person's, and enabled.
type Account struct {
	Name string // sAMAccountName
	SID  string
}

// A NotFound error says that the directory has no such thing, or more than one: Reason says which, for the admin.
type NotFound struct {
	What, Reason string
}

func (e *NotFound) Error() string { return e.What + ": " + e.Reason }

// An Unreachable error says that no domain controller answered.
type Unreachable struct {
	Realm string
	Err   error
}

func (e *Unreachable) Error() string {
	return fmt.Sprintf("no domain controller of %s answers by LDAP: %v", e.Realm, e.Err)
}

func (e *Unreachable) Unwrap() error { return e.Err }

// New makes a Directory. It asks nobody.
func New(c Config) *Directory {
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	return &Directory{c: c}
}

// people are accounts of persons: no computers, no contacts.
const people = "(objectCategory=person)(objectClass=user)"

// BySID gives the enabled account with a SID.
func (d *Directory) BySID(ctx context.Context, sid string) (Account, error) {
	if !IsSID(sid) {
		return Account{}, &NotFound{What: sid, Reason: "this is no SID"}
	}
	return d.person(ctx, sid, "(objectSid="+sid+")")
}

// Group gives the SID of a group by its name ("CORP\Orders" or "Orders").
func (d *Directory) Group(ctx context.Context, name string) (sid string, err error) {
	_, short, qualified := strings.Cut(name, `\`)
	if !qualified {
		short = name
	}
	entries, err := d.search(ctx, ldap.ScopeWholeSubtree, "(&(objectCategory=group)(sAMAccountName="+ldap.EscapeFilter(short)+"))")
	if err != nil {
		return "", err
	}
	if len(entries) != 1 {
		return "", &NotFound{What: name, Reason: fmt.Sprintf("the directory has %d groups of this name", len(entries))}
	}
	return sidOf(entries[0].GetRawAttributeValue("objectSid"))
}

// Lockout is when a domain locks accounts (MS-ADTS section 3.1.1.5.4). Single groups can have another policy of their own.
type Lockout struct {
	// Threshold is how many wrong passwords lock an account; 0: none does.
	Threshold int
	// Window is in what time they have to come.
	Window time.Duration
}

// Lockout gives the domain's own policy.
func (d *Directory) Lockout(ctx context.Context) (Lockout, error) {
	entries, err := d.search(ctx, ldap.ScopeBaseObject, "(objectClass=domain)")
	if err != nil {
		return Lockout{}, err
	}
	if len(entries) != 1 {
		return Lockout{}, &NotFound{What: d.c.Realm, Reason: "the directory does not show the domain"}
	}
	threshold, terr := strconv.Atoi(entries[0].GetAttributeValue("lockoutThreshold"))
	window, werr := strconv.ParseInt(entries[0].GetAttributeValue("lockOutObservationWindow"), 10, 64)
	if terr != nil || werr != nil || threshold < 0 {
		return Lockout{}, &NotFound{What: d.c.Realm, Reason: "the directory does not show when the domain locks accounts"}
	}
	const unit = 100 * time.Nanosecond // and negative, as all intervals there
	if window > 0 || window < -int64(365*24*time.Hour/unit) {
		window = -int64(365 * 24 * time.Hour / unit)
	}
	return Lockout{Threshold: threshold, Window: time.Duration(-window) * unit}, nil
}

func (d *Directory) person(ctx context.Context, what, term string) (Account, error) {
	entries, err := d.search(ctx, ldap.ScopeWholeSubtree, "(&"+people+term+")")
	if err != nil {
		return Account{}, err
	}
	var on []*ldap.Entry
	for _, e := range entries {
		if enabled(e) {
			on = append(on, e)
		}
	}
	switch {
	case len(entries) == 0:
		return Account{}, &NotFound{What: what, Reason: "the directory has no such person"}
	case len(on) == 0:
		return Account{}, &NotFound{What: what, Reason: "the account is disabled"}
	case len(on) > 1:
		return Account{}, &NotFound{What: what, Reason: fmt.Sprintf("%d accounts have this name: give it to one alone", len(on))}
	}
	sid, err := sidOf(on[0].GetRawAttributeValue("objectSid"))
	if err != nil {
		return Account{}, fmt.Errorf("%s: %w", what, err)
	}
	name := on[0].GetAttributeValue("sAMAccountName")
	if name == "" || strings.ContainsAny(name, "/@\x00") {
		return Account{}, &NotFound{What: what, Reason: "its account name cannot be used"}
	}
	return Account{Name: name, SID: sid}, nil
}

// enabled reads userAccountControl (MS-ADTS section 2.2.16). An account without it that can be read is none to act for.
func enabled(e *ldap.Entry) bool {
	const disabled = 2
	uac, err := strconv.ParseInt(e.GetAttributeValue("userAccountControl"), 10, 64)
	return err == nil && uac&disabled == 0
}

var sidForm = regexp.MustCompile(`^S-1-\d{1,15}(-\d{1,10}){1,15}$`)

// IsSID says whether a text is a SID (MS-DTYP section 2.4.2.1).
func IsSID(s string) bool { return sidForm.MatchString(s) }

// sidOf reads a SID's bytes (MS-DTYP section 2.4.2.2).
func sidOf(b []byte) (string, error) {
	const head = 8
	if len(b) < head || b[0] != 1 || b[1] > 15 || len(b) != head+4*int(b[1]) {
		return "", errors.New("the directory's objectSid cannot be read")
	}
	var authority uint64
	for _, x := range b[2:head] {
		authority = authority<<8 | uint64(x)
	}
	s := fmt.Sprintf("S-1-%d", authority)
	for b = b[head:]; len(b) > 0; b = b[4:] {
		s += fmt.Sprintf("-%d", uint32(b[0])|uint32(b[1])<<8|uint32(b[2])<<16|uint32(b[3])<<24)
	}
	return s, nil
}

// search asks one domain controller after the other.
func (d *Directory) search(ctx context.Context, scope int, filter string) ([]*ldap.Entry, error) {
	hosts, err := d.c.Controllers(ctx, d.c.Realm)
	if err != nil {
		return nil, &Unreachable{d.c.Realm, err}
	}
	var tried error
	for _, host := range hosts {
		entries, err := d.ask(ctx, host, scope, filter)
		if err == nil {
			return entries, nil
		}
		tried = errors.Join(tried, fmt.Errorf("%s: %w", host, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, &Unreachable{d.c.Realm, tried}
}

func (d *Directory) ask(ctx context.Context, host string, scope int, filter string) ([]*ldap.Entry, error) {
	s, err := d.connect(ctx, host)
	if err != nil {
		return nil, err
	}
	defer s.close()
	base, err := s.signOn(ctx, d.c.Client, d.c.Realm)
	if err != nil {
		return nil, err
	}
	res, err := s.ldap.Search(ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, maxHits, int(answerTimeout/time.Second), false, filter,
		[]string{"sAMAccountName", "objectSid", "userAccountControl", "lockoutThreshold", "lockOutObservationWindow"}, nil))
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	return res.Entries, nil
}
