package winauth

import (
	"encoding/base64"
	"strings"
)

const (
	// maxChallenges bounds how many schemes are read out of one answer, maxTokenText how long a token may be.
	maxChallenges = 64
	maxTokenText  = 256 << 10
)

// A challenge is one scheme that a server offers, with its token68 (RFC 9110 section 11.2), if any.
type challenge struct {
	scheme string // lower case
	token  []byte
	bad    bool // there is a token, but it is not Base64
}

// parseChallenges reads WWW-Authenticate values: several fields, lists within a field, schemes in any case, parameters
// and quoted strings of other schemes beside. Only negotiate and ntlm are given out, in the server's order.
func parseChallenges(values []string) []challenge {
	var out []challenge
	for _, v := range values {
		for _, item := range splitList(v) {
			scheme, rest, _ := strings.Cut(item, " ")
			scheme = strings.ToLower(scheme)
			if scheme != "negotiate" && scheme != "ntlm" {
				continue // another scheme, or a parameter of one
			}
			if len(out) == maxChallenges {
				return out
			}
			c := challenge{scheme: scheme}
			if rest = strings.Trim(rest, " \t"); rest != "" {
				c.token, c.bad = decodeToken(rest)
			}
			out = append(out, c)
		}
	}
	return out
}

func decodeToken(s string) (token []byte, bad bool) {
	if len(s) > maxTokenText {
		return nil, true
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil, true
	}
	return b, len(b) == 0
}

// splitList splits at commas outside of quoted strings.
func splitList(v string) []string {
	var out []string
	start, quoted := 0, false
	for i := 0; i < len(v); i++ {
		switch {
		case quoted && v[i] == '\\':
			i++
		case v[i] == '"':
			quoted = !quoted
		case v[i] == ',' && !quoted:
			out = append(out, strings.Trim(v[start:i], " \t"))
			start = i + 1
		}
	}
	return append(out, strings.Trim(v[start:], " \t"))
}

// find gives the challenge of a scheme: one with a token before one without.
func find(list []challenge, scheme string) (challenge, bool) {
	var got challenge
	ok := false
	for _, c := range list {
		if c.scheme == scheme && (!ok || (got.token == nil && c.token != nil)) {
			got, ok = c, true
		}
	}
	return got, ok
}

func header(scheme string, token []byte) string {
	return scheme + " " + base64.StdEncoding.EncodeToString(token)
}
