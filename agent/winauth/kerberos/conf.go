// Package kerberos signs on with Kerberos 5 against Active Directory: it gets and keeps tickets (RFC 4120, RFC 6806) and
// makes the GSS-API tokens of an initiator (RFC 4121), with channel bindings and a verified answer.
//
// Messages, ciphers and file formats are those of jcmturner/gokrb5; its network client, its caches and its SPNEGO client
// are not used. KDCs are asked over TCP alone, within the caller's context; nothing runs in the background, tickets are
// renewed when they are next needed. Tickets are never forwardable: nothing here delegates.
//
// Use: New a Client, Ticket for a service, Initiate a Context, send its token, Verify the answer.
package kerberos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
)

// maxKDCs bounds how many addresses of a realm are tried for one exchange.
const maxKDCs = 8

// maxFile bounds configuration, keytab and credential cache.
const maxFile = 16 << 20

// Conf is what a krb5.conf says: the default realm, where KDCs are, which encryption types are allowed.
type Conf struct {
	parsed *config.Config
	dns    bool // find KDCs by SRV records
}

// LoadConf reads a krb5.conf. An absent file is one that says nothing: KDCs are then found by DNS, as a machine that is
// joined to a domain finds them.
func LoadConf(path string) (*Conf, error) {
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ParseConf(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("read the Kerberos configuration: %w", err)
	}
	c, err := ParseConf(b)
	if err != nil {
		return nil, fmt.Errorf("read the Kerberos configuration %s: %w", path, err)
	}
	return c, nil
}

// ParseConf reads the text of a krb5.conf. Include directives are passed over.
func ParseConf(text []byte) (*Conf, error) {
	var parsed *config.Config
	err := guard("krb5.conf", func() (err error) {
		parsed, err = config.NewFromString(string(text))
		if _, unsupported := errors.AsType[config.UnsupportedDirective](err); unsupported {
			return nil // old directives that say nothing about Kerberos 5
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	// MIT looks KDCs up by DNS unless told not to; the parser's default is the other way round.
	says := regexp.MustCompile(`(?m)^\s*dns_lookup_kdc\s*=`).Match(text)
	return &Conf{parsed: parsed, dns: parsed.LibDefaults.DNSLookupKDC || !says}, nil
}

// DefaultRealm is the realm of names without one, "" if the configuration names none.
func (c *Conf) DefaultRealm() string { return c.parsed.LibDefaults.DefaultRealm }

// RealmFor gives the realm that a DNS domain or NetBIOS name means, "" if the configuration does not tell. A NetBIOS
// name is taken for the realm whose first label it is.
func (c *Conf) RealmFor(domain string) string {
	if domain == "" {
		return c.DefaultRealm()
	}
	known := []string{c.DefaultRealm()}
	for _, r := range c.parsed.Realms {
		known = append(known, r.Realm)
	}
	for _, r := range known {
		first, _, _ := strings.Cut(r, ".")
		if strings.EqualFold(r, domain) || strings.EqualFold(first, domain) {
			return r
		}
	}
	return c.parsed.ResolveRealm(strings.ToLower(domain))
}

// etypes gives the encryption types to ask for, strongest first as configured, without DES.
func (c *Conf) etypes() []int32 {
	able := []int32{
		etypeID.AES256_CTS_HMAC_SHA384_192, etypeID.AES128_CTS_HMAC_SHA256_128,
		etypeID.AES256_CTS_HMAC_SHA1_96, etypeID.AES128_CTS_HMAC_SHA1_96, etypeID.RC4_HMAC,
	}
	var out []int32
	for _, e := range c.parsed.LibDefaults.DefaultTktEnctypeIDs {
		if slices.Contains(able, e) && !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	if len(out) == 0 {
		return able
	}
	return out
}

// kdcs gives the addresses of a realm's KDCs in the order of the configuration or of DNS. A realm without a dot that the
// configuration does not know is a NetBIOS name: the default realm's KDCs know it or refer to those who do.
func (c *Conf) kdcs(ctx context.Context, realm string) ([]string, error) {
	unknown := !slices.ContainsFunc(c.parsed.Realms, func(r config.Realm) bool { return r.Realm == realm })
	if unknown && !strings.Contains(realm, ".") {
		realm = c.DefaultRealm()
	}
	var out []string
	for _, r := range c.parsed.Realms {
		if r.Realm != realm {
			continue
		}
		for _, k := range r.KDC {
			if a, ok := kdcAddress(k); ok && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	if len(out) == 0 && c.dns && realm != "" {
		_, srv, err := net.DefaultResolver.LookupSRV(ctx, "kerberos", "tcp", realm)
		if err != nil {
			return nil, fmt.Errorf("find the domain controllers of %s by DNS: %w", realm, err)
		}
		for _, s := range srv {
			out = append(out, net.JoinHostPort(strings.TrimSuffix(s.Target, "."), strconv.Itoa(int(s.Port))))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the Kerberos configuration names no domain controller for realm %q", realm)
	}
	return out[:min(len(out), maxKDCs)], nil
}

// Controllers gives the hosts of a realm's domain controllers, in the order of the configuration or of DNS.
func (c *Conf) Controllers(ctx context.Context, realm string) ([]string, error) {
	addrs, err := c.kdcs(ctx, realm)
	if err != nil {
		return nil, err
	}
	hosts := make([]string, 0, len(addrs))
	for _, a := range addrs {
		if host, _, err := net.SplitHostPort(a); err == nil && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts, nil
}

// kdcAddress reads a kdc entry: host, host:port, [v6], [v6]:port, with tcp/ before it or not.
func kdcAddress(s string) (string, bool) {
	s = strings.TrimPrefix(strings.TrimSpace(s), "tcp/")
	if s == "" || strings.Contains(s, "/") {
		return "", false // udp/ and https:// are other transports
	}
	if host, port, err := net.SplitHostPort(s); err == nil {
		return net.JoinHostPort(host, port), true
	}
	return net.JoinHostPort(strings.Trim(strings.TrimSuffix(s, ":88"), "[]"), "88"), true
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s is no regular file of at most %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

// guard turns a panic of the Kerberos library into an error. Its parsers index into what a KDC, a server or a damaged
// file wrote without always checking the length first, and one bad answer must not end the agent.
func guard(what string, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s cannot be read: malformed", what)
		}
	}()
	return f()
}
