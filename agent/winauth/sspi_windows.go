package winauth

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os/user"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"github.com/alexbrainman/sspi"
)

// Only the root package of alexbrainman/sspi is used: importing its ntlm package panics in init where Windows has no
// NTLM package, which would end every command of the agent.

// sspiCredential is a Credential on Windows: SSPI does the work.
type sspiCredential struct {
	id       string
	options  Options
	name     name
	password func() (string, error) // nil for the process's own account, and for a person
	person   *session               // in whose session Windows signs on; nil for the process's own
	refused  holds
	salt     [16]byte

	mu     sync.Mutex // guards what follows
	handle *handle
	print  [32]byte // of the password that handle was made with
}

// handle is an SSPI credentials handle. Windows keeps tickets with it, so it is kept as long as the password stays the
// same, and freed when neither the credential nor a handshake refers to it.
type handle struct {
	cred *sspi.Credentials
	pkg  string
}

// NewService gives the account that the process runs as: a gMSA, a domain account, or the machine's. With a keytab or a
// credential cache it is that one's, and Windows is not asked.
func NewService(o Options, src ServiceSource) (Credential, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if src != (ServiceSource{}) {
		return keyedService(o, src)
	}
	u, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("find out which account this process runs as: %w", err)
	}
	return ready(&sspiCredential{id: u.Username, options: o})
}

// NewAccount gives the credential of a named account: with a password by Windows, with a keytab without it.
func NewAccount(o Options, a Account) (Credential, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if a.Keytab != "" || a.Password == nil {
		return keyedAccount(o, a)
	}
	n, err := parseName(a.User)
	if err != nil {
		return nil, err
	}
	return ready(&sspiCredential{id: n.identity(), options: o, name: n, password: a.Password})
}

// ready makes sure that the SSPI package is there.
func ready(c *sspiCredential) (Credential, error) {
	_, _ = rand.Read(c.salt[:]) // never fails
	if _, err := sspi.QueryPackageInfo(c.pkg()); err != nil {
		return nil, fmt.Errorf("this Windows has no security package %s: %w", c.pkg(), err)
	}
	return c, nil
}

func (c *sspiCredential) pkg() string {
	switch {
	case c.person != nil:
		return kerberosPackage // nothing but constrained delegation may stand for a person
	case c.options.Protocol == NTLM:
		return sspi.NTLMSP_NAME
	}
	return sspi.NEGOSSP_NAME
}

// Identity implements Credential.
func (c *sspiCredential) Identity() string { return c.id }

// String keeps everything but the name out of logs.
func (c *sspiCredential) String() string { return c.id }

// GoString is for %#v.
func (c *sspiCredential) GoString() string { return c.id }

// LogValue is for slog.
func (c *sspiCredential) LogValue() slog.Value { return slog.StringValue(c.id) }

// Handshake implements Credential.
func (c *sspiCredential) Handshake(t Target) Handshake {
	return &sspiHandshake{cred: c, target: t, spn: t.spn()}
}

// acquire gives a credentials handle for a package.
func (c *sspiCredential) acquire(pkg string) (*handle, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var print [32]byte
	var secret string
	if c.password != nil {
		p, err := c.password()
		if err != nil {
			return nil, &Error{Kind: NotReady, Err: fmt.Errorf("get the password of %s: %w", c.id, err)}
		}
		secret, print = p, sha256.Sum256(append(append([]byte{}, c.salt[:]...), p...))
	}
	if c.handle != nil && c.handle.pkg == pkg && c.print == print {
		return c.handle, nil
	}
	cred, err := c.open(pkg, secret)
	if err != nil {
		return nil, c.explain(err, "")
	}
	h := &handle{cred: cred, pkg: pkg}
	runtime.AddCleanup(h, func(x *sspi.Credentials) { _ = x.Release() }, cred)
	c.handle, c.print = h, print
	return h, nil
}

// open calls AcquireCredentialsHandle, with the password only for the time of the call.
func (c *sspiCredential) open(pkg, secret string) (*sspi.Credentials, error) {
	if c.password == nil {
		var cred *sspi.Credentials
		err := c.person.run(func() (err error) {
			cred, err = sspi.AcquireCredentials("", pkg, sspi.SECPKG_CRED_OUTBOUND, nil)
			return err
		})
		return cred, err
	}
	account, domain := c.name.user, c.name.domain
	if c.name.suffix != "" {
		account = c.name.user + "@" + c.name.suffix // a UPN goes without a domain
	}
	var texts [3][]uint16
	for i, s := range []string{account, domain, secret} {
		u, err := syscall.UTF16FromString(s)
		if err != nil {
			return nil, errors.New("name or password has a zero in it")
		}
		texts[i] = u
	}
	defer clear(texts[2])
	id := &sspi.SEC_WINNT_AUTH_IDENTITY{
		User: &texts[0][0], UserLength: uint32(len(texts[0]) - 1),
		Domain: &texts[1][0], DomainLength: uint32(len(texts[1]) - 1),
		Password: &texts[2][0], PasswordLength: uint32(len(texts[2]) - 1),
		Flags: sspi.SEC_WINNT_AUTH_IDENTITY_UNICODE,
	}
	cred, err := sspi.AcquireCredentials("", pkg, sspi.SECPKG_CRED_OUTBOUND, (*byte)(unsafe.Pointer(id)))
	runtime.KeepAlive(id)
	return cred, err
}
