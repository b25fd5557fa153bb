package proxy

import (
	"net"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// maxList bounds what is read of Windows' lists.
const maxList = 64 << 10

// fromList picks the proxy for a scheme out of a list as Windows has it: "proxy:8080", "http=a:80;https=b:443",
// "https=https://b:443", several after one another for the case that the first does not answer. The first counts. Nil: the
// list names none for that scheme.
func fromList(list, scheme string) *url.URL {
	if len(list) > maxList {
		return nil
	}
	for _, entry := range strings.FieldsFunc(list, func(r rune) bool { return r == ';' || r == ' ' || r == '\t' || r == '\n' || r == '\r' }) {
		kind, address, named := strings.Cut(entry, "=")
		if !named {
			kind, address = scheme, entry
		}
		through := "http"
		switch strings.ToLower(kind) {
		case scheme:
		case "socks":
			through = "socks5"
		default:
			continue
		}
		if before, after, ok := strings.Cut(address, "://"); ok {
			through, address = strings.ToLower(before), after
		}
		if u, err := Parse(through + "://" + strings.TrimRight(address, "/")); err == nil && u.Path == "" {
			return u
		}
	}
	return nil
}

// bypassed reports whether Windows' list of exceptions has this URL's host: names and addresses with * for any
// characters, each perhaps with a scheme before or a port after it, and <local> for names without a dot. This machine is
// always an exception.
func bypassed(list string, u *url.URL) bool {
	host := strings.ToLower(strings.TrimRight(u.Hostname(), "."))
	ip, err := netip.ParseAddr(host)
	if host == "localhost" || err == nil && ip.IsLoopback() {
		return true
	}
	if len(list) > maxList {
		return false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	for _, entry := range strings.FieldsFunc(list, func(r rune) bool { return r == ';' || r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' }) {
		if matches(strings.ToLower(entry), u.Scheme, host, port, err == nil) {
			return true
		}
	}
	return false
}

func matches(entry, scheme, host, port string, address bool) bool {
	if entry == "<local>" {
		return !address && !strings.Contains(host, ".")
	}
	if kind, rest, ok := strings.Cut(entry, "://"); ok {
		if kind != scheme {
			return false
		}
		entry = rest
	}
	if h, p, err := net.SplitHostPort(entry); err == nil {
		if p != port && p != "*" {
			return false
		}
		entry = h
	}
	entry = strings.TrimRight(strings.Trim(entry, "[]"), ".")
	if strings.ContainsAny(entry, `\[?`) { // to path.Match they mean more than to Windows
		return false
	}
	ok, err := path.Match(entry, host)
	return err == nil && ok
}
