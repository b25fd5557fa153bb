package agent

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/http/httpguts"

	"sallyport/agent/metrics"
	"sallyport/agent/policy"
	"sallyport/agent/secret"
	"sallyport/agent/upstream"
	"sallyport/configs"
	"sallyport/internal/signature"
)

// A validator checks what a Config means. It goes on after an error: one run shows all that is wrong.
type validator struct {
	*configs.Doc
	file string
	c    *Config
}

func (v validator) warnf(path, format string, args ...any) {
	line, column := v.Position(path)
	v.c.Warnings = append(v.c.Warnings, fmt.Sprintf("%s:%d:%d: ", v.file, line, column)+fmt.Sprintf(format, args...))
}

// notZero refuses a zero that stands in the file: it reads like "none" or "without end", and would be the default.
func (v validator) notZero(path string, zero bool, write string) {
	if zero && v.Has(path) {
		v.Errorf(path, "%s must not be 0 (write %s, or leave it out for the default)", path[strings.LastIndexByte(path, '.')+1:], write)
	}
}

const (
	// leastKeep is the shortest time for which a record is kept: what goes sooner is no record.
	leastKeep = 24 * time.Hour
	// recordFiles is into how many files the record's room is divided; leastKeepSize leaves each room for some thousand calls.
	recordFiles   = 16
	leastKeepSize = 16 << 20
)

// leastLinkAge keeps a link from being made anew all the time.
const leastLinkAge = 10 * time.Second

func (v validator) config() {
	c := v.c
	v.relay()
	if !isLabel(c.Gateway) {
		v.Errorf("gateway", "gateway %q is no name (write 1 to 63 lower-case letters, digits and hyphens)", c.Gateway)
	}
	if c.Links < 0 || c.Links > 16 {
		v.Errorf("links", "links must be 1 to 16 (leave it out for 2)")
	}
	v.notZero("links", c.Links == 0, "1 to 16")
	v.notZero("drain_timeout", c.DrainTimeout == 0, "a time such as 30s")
	if c.MaxLinkAge != 0 && c.MaxLinkAge < leastLinkAge {
		v.Errorf("max_link_age", "max_link_age must be at least %s (leave it out for 12h)", leastLinkAge)
	}
	v.proxy(c)
	if c.Identity.Entra != nil {
		v.entra("identity.entra", c.Identity.Entra)
	}
	v.syslog(c.Audit.Syslog)
	v.notZero("audit.keep", c.Audit.Keep == 0, "a time such as 90d")
	if k := c.Audit.Keep; k != 0 && k < leastKeep {
		v.Errorf("audit.keep", "keep must be at least %s (leave it out to keep the record as long as there is room)", leastKeep)
	}
	if k := c.Audit.KeepSize; k != 0 && k < leastKeepSize {
		v.Errorf("audit.keep_size", "keep_size must be at least 16MiB (leave it out for 1GiB)")
	}
	if c.Metrics != nil {
		if err := metrics.CheckAddress(c.Metrics.Listen); err != nil {
			v.Errorf("metrics.listen", "metrics.listen: %v", err)
		}
	}
	for i, s := range c.PolicySigners {
		if _, ok := signature.ParseName(s); !ok {
			v.Errorf(fmt.Sprintf("policy_signers[%d]", i), "%.80q is no signer's key (write what 'sallyport-agent policy keygen' prints: ed25519:...)", s)
		}
	}
	for i, s := range c.Update.Signers {
		if _, ok := signature.ParseName(s); !ok {
			v.Errorf(fmt.Sprintf("update.signers[%d]", i), "%.80q is no signer's key (write what 'sallyport-agent release keygen' prints: ed25519:...)", s)
		}
	}
	if c.Callers != nil {
		v.callers("callers", c.Callers)
	}
	if len(c.APIs) == 0 {
		v.warnf("apis", "no APIs: nothing can be called (add one under apis)")
	}
	names := map[string]bool{}
	for i := range c.APIs {
		path := fmt.Sprintf("apis[%d]", i)
		if name := c.APIs[i].Name; names[name] {
			v.Errorf(path+".name", "a second API named %q (rename one)", name)
		} else {
			names[name] = true
		}
		v.api(path, &c.APIs[i])
	}
}

func (v validator) syslog(s *Syslog) {
	if s == nil {
		return
	}
	host, port, err := net.SplitHostPort(s.To)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || n == 0 {
		v.Errorf("audit.syslog.to", "%q is no address of a collector (write siem.corp.example:6514)", s.To)
	}
	if (s.Cert == "") != (s.Key == "") {
		v.Errorf("audit.syslog", "cert and key belong together (give both or neither)")
	}
}

func (v validator) relay() {
	u, err := baseURL(v.c.Relay)
	switch {
	case err != nil:
		v.Errorf("relay", "relay: %v", err)
	case u.Path != "" && u.Path != "/":
		v.Errorf("relay", "relay: a path does not belong here (write https://%s)", u.Host)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		v.Errorf("relay", "relay: plain http is for this machine alone (write https://%s)", u.Host)
	}
}

func (v validator) api(path string, a *API) {
	if !isLabel(a.Name) {
		v.Errorf(path+".name", "API name %q is no name (write 1 to 63 lower-case letters, digits and hyphens)", a.Name)
	}
	u, err := baseURL(a.URL)
	if err != nil {
		v.Errorf(path+".url", "url: %v", err)
		u = nil
	}
	a.address = u
	v.auth(path+".auth", a)
	v.tls(path+".tls", a)
	v.allow(path+".allow", a)
	v.check(path+".check", a)
	v.notZero(path+".limits.body", a.Limits.Body == 0, "a size such as 100MB")
	v.notZero(path+".limits.timeout", a.Limits.Timeout == 0, "a time such as 230s")
	v.notZero(path+".limits.concurrent", a.Limits.Concurrent == 0, "1 to 10000")
	v.notZero(path+".idle_timeout", a.IdleTimeout == 0, "a time such as 10m")
	if a.Limits.Concurrent < 0 || a.Limits.Concurrent > 10_000 {
		v.Errorf(path+".limits.concurrent", "concurrent must be 1 to 10000 (leave it out for 64)")
	}
	if t := a.Limits.Timeout; t > 0 && t < time.Second {
		v.Errorf(path+".limits.timeout", "a timeout of %v is too short for any answer (write 1s or more)", t)
	}
	if t := a.IdleTimeout; t > 0 && t < time.Second {
		v.Errorf(path+".idle_timeout", "an idle timeout of %v ends every stream (write 1s or more)", t)
	}
	for i, name := range a.Headers.AllowMethodOverride {
		if p := fmt.Sprintf("%s.headers.allow_method_override[%d]", path, i); !policy.IsOverride(name) {
			v.Errorf(p, "%q is not removed from requests, so it need not be allowed (known: %s)", name, strings.Join(policy.Overrides(), ", "))
		} else {
			v.warnf(p, "%s lets callers replace the method or the path of a request, so they can call what no rule admits", name)
		}
	}
	v.definition(path, a)
	if err := upstream.CheckLinks(a.Links); err != nil {
		v.Errorf(path+".links", "%v", err)
	}
	for i, host := range a.LinkHosts {
		if u, err := url.Parse("//" + host); err != nil || host == "" || u.Host != host || u.User != nil {
			v.Errorf(fmt.Sprintf("%s.link_hosts[%d]", path, i), "%q is not a host (write erp.corp.example, or with a port erp.corp.example:8080)", host)
		}
	}
}

func (v validator) definition(path string, a *API) {
	if strings.HasPrefix(a.Definition, "/") && strings.ContainsAny(a.Definition, " #\\") {
		v.Errorf(path+".definition", "definition: %q is no path on the API (encode blanks as %%20, or write file:/absolute/path for a file)", a.Definition)
	}
	if strings.Contains(a.Definition, "://") {
		v.Errorf(path+".definition", "definition: a URL is not read (write a file, or the path on the API's own host: /swagger/v1/swagger.json)")
	}
	if len(a.Samples) > 0 && a.Definition != "" {
		v.Errorf(path+".samples", "samples are for an API without a definition (remove one of the two)")
	}
	for i, s := range a.Samples {
		if method, path2, ok := strings.Cut(s.Operation, " "); !ok || method == "" || !strings.HasPrefix(path2, "/") {
			v.Errorf(fmt.Sprintf("%s.samples[%d].operation", path, i), "%q is no operation (write a method and a path: GET /orders/{id})", s.Operation)
		}
	}
}

func (v validator) auth(path string, a *API) {
	n := 0
	for _, there := range []bool{a.Auth.Word != "", a.Auth.Windows != nil, a.Auth.Basic != nil, a.Auth.Bearer != nil, a.Auth.Header != nil} {
		if there {
			n++
		}
	}
	switch {
	case n == 0:
		v.Errorf(path, "auth is empty (write none, passthrough, or one of the settings windows, basic, bearer, header)")
	case n > 1:
		v.Errorf(path, "more than one way to sign on (keep one of windows, basic, bearer, header)")
	}
	if w := a.Auth.Windows; w != nil {
		v.windows(path+".windows", w)
	}
	if b := a.Auth.Basic; b != nil {
		v.secret(path+".basic.secret", b.Secret)
		if b.User == "" || strings.ContainsAny(b.User, ":\r\n") {
			v.Errorf(path+".basic.user", "user must not be empty or contain \":\" (RFC 7617 has no way to send it)")
		}
	}
	if b := a.Auth.Bearer; b != nil {
		v.secret(path+".bearer.secret", b.Secret)
	}
	if h := a.Auth.Header; h != nil {
		v.secret(path+".header.secret", h.Secret)
		if !httpguts.ValidHeaderFieldName(h.Name) {
			v.Errorf(path+".header.name", "%q is not the name of a header field (write one like X-API-Key)", h.Name)
		}
	}
	clear := a.Auth.Basic != nil || a.Auth.Bearer != nil || a.Auth.Header != nil || a.Auth.Word == AuthPassthrough
	if clear && a.address != nil && a.address.Scheme == "http" && !isLoopback(a.address.Hostname()) {
		v.warnf(path, "the credential for API %s crosses the network in the clear (use https)", a.Name)
	}
}

func (v validator) secret(path, name string) {
	if err := secret.CheckName(name); err != nil {
		v.Errorf(path, "secret is the name of a secret, not its value: %v", err)
	}
}

func (v validator) windows(path string, w *Windows) {
	switch w.As {
	case "service":
		v.without(path, "service", map[string]string{"account": w.Account, "secret": w.Secret})
		if w.Keytab != "" && w.CCache != "" {
			v.Errorf(path+".ccache", "keytab and ccache are two sources of one credential (keep one)")
		}
	case "account":
		v.without(path, "account", map[string]string{"principal": w.Principal, "ccache": w.CCache})
		v.account(path, w)
	case asPassword:
		v.without(path, w.As, map[string]string{
			"account": w.Account, "secret": w.Secret, "keytab": w.Keytab, "principal": w.Principal, "ccache": w.CCache,
		})
	case asCaller:
		v.actFor(path, w)
	default:
		v.Errorf(path+".as", "as: %q is not known (write service, account, caller-password or caller)", w.As)
	}
	if w.As != "caller" && w.Callers.set() {
		v.Errorf(path+".callers", "callers says for whom as: caller acts (remove it, or write as: caller)")
	}
	if w.Protocol == "ntlm" && (w.Mutual || w.Keytab != "" || w.CCache != "" || w.SPN != "") {
		v.Errorf(path+".protocol", "mutual, keytab, ccache and spn are for Kerberos (remove them, or protocol: ntlm)")
	}
	if w.SPN != "" && !isSPN(w.SPN) {
		v.Errorf(path+".spn", "%q is not a service principal name (write it as HTTP/host.corp.example)", w.SPN)
	}
}

// actFor checks as: caller.
func (v validator) actFor(path string, w *Windows) {
	if v.c.Callers == nil {
		v.Errorf(path+".as", "as: caller needs callers at the top of the file: whose tokens prove who calls (add callers with an issuer and an audience)")
	}
	if w.CCache != "" {
		v.Errorf(path+".ccache", "as: caller needs the account's own key (write keytab, or account and secret, instead of ccache)")
	}
	if w.Protocol != "" && w.Protocol != "negotiate" && w.Protocol != "kerberos" {
		v.Errorf(path+".protocol", "as: caller is Kerberos alone (remove protocol)")
	}
	switch {
	case w.Account == "" && w.Secret != "":
		v.Errorf(path+".account", "account is missing (write whose password the secret is: svc-gw@corp.example)")
	case w.Account != "":
		v.without(path, "caller", map[string]string{"principal": w.Principal})
		v.account(path, w)
	}
	for name, list := range map[string][]string{
		"allow_groups": w.Callers.AllowGroups, "deny_groups": w.Callers.DenyGroups, "upn_suffixes": w.Callers.UPNSuffixes,
	} {
		for i, text := range list {
			if strings.TrimSpace(text) == "" || strings.ContainsFunc(text, unicode.IsControl) {
				v.Errorf(fmt.Sprintf("%s.callers.%s[%d]", path, name, i), "an entry of %s is empty or has a control character", name)
			}
		}
	}
	for i, domain := range w.Callers.Domains {
		if !httpguts.ValidHeaderFieldName(domain) || strings.Trim(domain, ".") != domain || strings.ContainsAny(domain, "*") {
			v.Errorf(fmt.Sprintf("%s.callers.domains[%d]", path, i), "%.100q is not the name of a domain (write it as emea.corp.example)", domain)
		}
	}
}

func (v validator) account(path string, w *Windows) {
	domain, user, hasDomain := strings.Cut(w.Account, `\`)
	user2, suffix, hasSuffix := strings.Cut(w.Account, "@")
	switch {
	case w.Account == "":
		v.Errorf(path+".account", "account is missing (write CORP\\svc-erp or svc-erp@corp.example)")
	case hasDomain && (domain == "" || user == "" || strings.Contains(user, `\`)),
		!hasDomain && hasSuffix && (user2 == "" || suffix == ""):
		v.Errorf(path+".account", "%q is not an account (write CORP\\svc-erp or svc-erp@corp.example)", w.Account)
	}
	switch {
	case w.Secret == "" && w.Keytab == "":
		v.Errorf(path+".secret", "secret is missing (write the name of the secret with the account's password, or a keytab)")
	case w.Secret != "" && w.Keytab != "":
		v.Errorf(path+".keytab", "secret and keytab are two sources of one credential (keep one)")
	case w.Secret != "":
		v.secret(path+".secret", w.Secret)
	}
}

// without reports settings that mean nothing with as, so that nobody believes they do.
func (v validator) without(path, as string, settings map[string]string) {
	for key, value := range settings {
		if value != "" {
			v.Errorf(path+"."+key, "%s has no meaning with as: %s (remove it)", key, as)
		}
	}
}

func (v validator) tls(path string, a *API) {
	t := a.TLS
	if a.address != nil && a.address.Scheme == "http" && t != (TLS{}) {
		v.Errorf(path, "tls has no meaning for a plain http url (write https in url, or remove tls)")
	}
	if (t.Cert == "") != (t.Key == "") {
		v.Errorf(path, "cert and key belong together (write both)")
	}
	if t.Pin != "" {
		b64, ok := strings.CutPrefix(t.Pin, "sha256/")
		if sum, err := base64.StdEncoding.DecodeString(b64); !ok || err != nil || len(sum) != 32 {
			v.Errorf(path+".pin", "pin must be sha256/ and the base64 of 32 bytes")
		}
		if t.CA != "" || t.ServerName != "" {
			v.Errorf(path+".pin", "pin takes the place of ca and server_name (remove them, or pin)")
		}
	}
	if t.MinVersion == "1.0" || t.MinVersion == "1.1" {
		v.warnf(path+".min_version", "TLS %s has known weaknesses", t.MinVersion)
	}
}

// baseURL parses an address with an optional path. Its errors do not quote it: it could hold a password.
func baseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("not a URL (write one like https://host.example.com)")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("must begin with https:// or http://")
	case u.User != nil:
		return nil, errors.New("a user name or password does not belong in a URL (remove what stands before \"@\")")
	case u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("no host (write one like https://host.example.com)")
	case u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("a query does not belong here (remove the \"?\" and what follows)")
	case strings.Contains(s, "#"):
		return nil, errors.New("a fragment does not belong here (remove the \"#\" and what follows)")
	}
	if err := configs.CheckHost(u); err != nil {
		return nil, err
	}
	return u, nil
}

// isLabel reports whether s is a DNS label in lower case (RFC 1123 section 2.1).
func isLabel(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func isSPN(s string) bool {
	class, host, ok := strings.Cut(s, "/")
	return ok && class != "" && host != "" && !strings.ContainsAny(s, " \t\r\n\\@")
}
