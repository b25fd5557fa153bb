package connector

import (
	"net/url"
	"strings"
)

// cutQuery takes every parameter called name out of target's query and returns its values, decoded. All other bytes
// stay as they are, and in their order: the query is never parsed and written again, because what an upstream makes of
// "a=1&&b;c=%zz" is its own affair. A name that is percent-encoded is found too, so that no spelling of the parameter
// reaches the upstream. A query that has nothing left loses its "?".
func cutQuery(target, name string) (rest string, values []string) {
	path, query, found := strings.Cut(target, "?")
	if !found {
		return target, nil
	}
	if !mayName(query, name) {
		return target, nil
	}
	kept := make([]string, 0, 8)
	for part := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(part, "=")
		if decodeQuery(key) == name {
			values = append(values, decodeQuery(value))
			continue
		}
		kept = append(kept, part)
	}
	if values == nil {
		return target, nil
	}
	rest = strings.Join(kept, "&")
	if rest == "" {
		return path, values
	}
	return path + "?" + rest, values
}

// mayName is a cheap look: without the name itself and without an escape the parameter cannot be there.
func mayName(query, name string) bool {
	return strings.Contains(query, name) || strings.ContainsAny(query, "%+")
}

// decodeQuery is what most readers would make of s; an s that cannot be decoded stays as it is.
func decodeQuery(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	if d, err := url.QueryUnescape(s); err == nil {
		return d
	}
	return s
}
