package connector

import (
	"net/http"
)

// authenticate lets the call pass if the caller shows a key of the connector's, or if none is demanded. The key is taken
// out of the request in any case: it is for the relay alone.
func (c *call) authenticate(pub *Published) error {
	header := pub.keyHeader()
	presented := c.r.Header[header]
	if pub.KeyQuery != "" {
		var values []string
		c.place.Target, values = cutQuery(c.place.Target, pub.KeyQuery)
		presented = append(presented[:len(presented):len(presented)], values...)
	}
	if pub.Allows(AuthNone) && len(presented) == 0 {
		return nil
	}
	if pub.Allows(AuthKey) {
		// More than one key is no key: the relay must not be the judge of which was meant.
		if len(presented) == 1 {
			if name, ok := pub.CheckKey(presented[0]); ok {
				c.event.Key = name
				return nil
			}
		}
		if len(presented) > 0 {
			return c.unauthorised(pub, "key-refused", "The key is unknown, expired or revoked, or was sent more than once.")
		}
		return c.unauthorised(pub, "key-required", "Send the connector's key in "+pub.keyPlace()+".")
	}
	if pub.Allows(AuthNone) {
		return nil
	}
	return c.unauthorised(pub, "key-required", "The connector admits nobody.")
}

func (c *call) unauthorised(pub *Published, code, detail string) *Problem {
	p := NewProblem(code, detail)
	// RFC 9110 section 11.6.1 demands a challenge. For keys no scheme is registered; this one says what a person needs.
	p.Challenge = `ApiKey realm="` + pub.Gateway + "/" + pub.Name + `", header="` + quotable(pub.keyHeader()) + `"`
	if pub.KeyQuery != "" {
		p.Challenge += `, query="` + quotable(pub.KeyQuery) + `"`
	}
	return p
}

// quotable leaves out what would need an escape in a quoted string.
func quotable(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '"' && c != '\\' {
			out = append(out, c)
		}
	}
	return string(out)
}

// keyHeader is the canonical name of the field that carries the key.
func (p *Published) keyHeader() string {
	if p.KeyHeader == "" {
		return defaultKeyHeader
	}
	return http.CanonicalHeaderKey(p.KeyHeader)
}

// keyPlace names every place in which the key is accepted.
func (p *Published) keyPlace() string {
	place := "the X-API-Key header"
	if p.KeyHeader != "" {
		place = "the " + quotable(p.KeyHeader) + " header"
	}
	if p.KeyQuery != "" {
		place += " or in the query parameter " + quotable(p.KeyQuery)
	}
	return place
}
