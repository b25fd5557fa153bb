package definition

import (
	"net/url"
	"strings"
)

// A base turns paths of a definition into paths below the API's url. The two disagree where the definition's base path
// and the url's path share only a part.
type base struct {
	add string // what stands before
	cut string // what is taken off
}

// below gives the path that follows the API's url; false if it is not below it.
func (b base) below(path string) (string, bool) {
	path = b.add + path
	rest, ok := strings.CutPrefix(path, b.cut)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	if rest == "" {
		rest = "/"
	}
	return rest, true
}

// findBase compares the definition's base path with the url's. paths are the definition's. The warning is "" where there is
// nothing to look at.
func findBase(stated string, u *url.URL, paths []string) (b base, warning string) {
	own := ""
	if u != nil {
		own = strings.TrimRight(u.EscapedPath(), "/")
	}
	stated = "/" + strings.Trim(stated, "/")
	if stated == "/" {
		stated = ""
	}
	asTheyAre := base{}
	switch {
	case stated == own:
		return asTheyAre, ""
	case isBelow(stated, own):
		return base{add: strings.TrimPrefix(stated, own)}, ""
	case isBelow(own, stated):
		b := base{cut: strings.TrimPrefix(own, stated)}
		for _, p := range paths {
			if _, ok := b.below(p); ok {
				return b, ""
			}
		}
		if stated == "" {
			return asTheyAre, "" // it does not say where it is
		}
	}
	return asTheyAre, "the base path of the definition (" + stated + "/) is not that of the url (" + own + "/): its paths are taken as they follow the url"
}

// isBelow compares whole segments.
func isBelow(path, of string) bool {
	rest, ok := strings.CutPrefix(path, of)
	return ok && (rest == "" || rest[0] == '/')
}

// pathOf is the path of a server's address, which may be relative (OpenAPI 3.0, "Server Object").
func pathOf(address string) string {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			return ""
		}
		address = rest[i:]
	}
	if i := strings.IndexAny(address, "?#"); i >= 0 {
		address = address[:i]
	}
	return address
}

// hostOf is the host of a server's address, in lower case and with its port; "" if it has none.
func hostOf(address string) string {
	_, rest, ok := strings.Cut(address, "://")
	if !ok {
		if rest, ok = strings.CutPrefix(address, "//"); !ok {
			return ""
		}
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return strings.ToLower(rest[strings.LastIndexByte(rest, '@')+1:])
}

// nameOfHost is a host without its port.
func nameOfHost(hostport string) string {
	u := url.URL{Host: hostport}
	return strings.TrimSuffix(u.Hostname(), ".")
}

func unescapePercent(s string) string {
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	return s
}
