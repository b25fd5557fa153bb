package connector

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// authenticate lets the call pass if the caller proves one of the connector's ways to call, all parts of it. What proves
// the caller is taken out of the request in any case: it is for the relay alone.
func (c *call) authenticate(pub *Published) error {
	shown := c.takeShown(pub)
	if pub.Allows(AuthNone) {
		return nil
	}
	if len(pub.Auth) == 0 {
		return c.unauthorised(pub, "key-required", "The connector admits nobody.")
	}
	proofs := map[string]proof{}
	var refused error
	for _, way := range pub.Auth {
		err := c.proveAll(pub, strings.Split(way, "+"), shown, proofs)
		if err == nil {
			return nil
		}
		refused = moreTelling(refused, err)
	}
	return refused
}

// A proof is what became of one method.
type proof struct {
	err       error
	principal string
	key       *Key     // for AuthKey
	client    string   // for AuthOAuth2: the application that shows the token
	token     []string // for AuthOAuth2 the field that was proved, for AuthWindows the one that will be
}

// shown is what a caller shows.
type shown struct {
	keys          []string
	authorization []string
}

// takeShown collects what the caller shows, and cuts a key out of the query. Fields are removed later, with all others
// (cleanRequest).
func (c *call) takeShown(pub *Published) shown {
	s := shown{keys: c.r.Header[pub.keyHeader()]}
	if pub.KeyQuery != "" {
		var values []string
		c.place.Target, values = cutQuery(c.place.Target, pub.KeyQuery)
		s.keys = slices.Concat(s.keys, values)
	}
	if pub.ownsAuthorization() {
		s.authorization = c.r.Header["Authorization"]
	}
	return s
}

// ownsAuthorization says that the field Authorization is for the relay, and ends there.
func (p *Published) ownsAuthorization() bool {
	return p.Takes(AuthBasic) || p.Takes(AuthOAuth2) || p.Takes(AuthWindows)
}

// proveAll demands every method of one way, in the order that normalWay gave them. Each method is tried once for a call.
func (c *call) proveAll(pub *Published, methods []string, s shown, proofs map[string]proof) error {
	for _, m := range methods {
		p, tried := proofs[m]
		if !tried {
			p = c.prove(pub, m, s)
			proofs[m] = p
		}
		if p.err != nil {
			return p.err // what costs more to look at is not looked at
		}
	}
	var principals []string
	c.event.Client, c.token = "", nil // of a token that did not suffice
	for _, m := range methods {
		p := proofs[m]
		if p.principal != "" {
			principals = append(principals, p.principal)
		}
		if p.token != nil {
			c.event.Client, c.token = p.client, p.token
		}
		if p.key != nil {
			c.event.Key = p.key.Name
			if err := c.enterKey(pub, p.key); err != nil {
				return err
			}
		}
	}
	c.event.Principal = strings.Join(principals, " ")
	return nil
}

func (c *call) prove(pub *Published, method string, s shown) proof {
	switch method {
	case AuthKey:
		return c.proveKey(pub, s.keys)
	case AuthOAuth2:
		return c.proveToken(pub, s.authorization)
	case AuthWindows:
		return c.proveWindows(pub, s.authorization)
	case AuthBasic:
		return c.proveUser(pub, s.authorization)
	}
	return proof{err: c.unauthorised(pub, "key-required", "The connector admits nobody.")}
}

// moreTelling keeps the refusal of what was shown rather than the demand for what was not.
func moreTelling(a, b error) error {
	if a == nil {
		return b
	}
	switch problemOf(a).Code {
	case "key-required", "logon-missing", "logon-required", "token-required":
		return b
	}
	return a
}

func (c *call) proveKey(pub *Published, keys []string) proof {
	if len(keys) == 0 {
		return proof{err: c.unauthorised(pub, "key-required", "Send the connector's key in "+pub.keyPlace()+".")}
	}
	// More than one key is no key: the relay must not be the judge of which was meant.
	if len(keys) == 1 {
		if k := pub.findKey(keys[0]); k != nil {
			return c.proveFrom(pub, k)
		}
	}
	sources := []source{addressSource(c.from.remote)}
	if len(keys) == 1 && wellFormed(keys[0]) {
		sources = append(sources, nameSource(pub.path(), "key", keys[0][:hintChars]))
	}
	return proof{err: c.refuse(pub, "key-refused", "The key is unknown, expired or revoked, or was sent more than once.", sources...)}
}

// proveFrom holds a right key against the networks that it works from.
func (c *call) proveFrom(pub *Published, k *Key) proof {
	if !within(k.From, c.from.remote) {
		c.event.Key = k.Name
		c.p.guard.fail(time.Now(), pub.path(), addressSource(c.from.remote))
		return proof{err: NewProblem("address-refused", "The key does not work from this address.")}
	}
	return proof{principal: "key:" + k.Name, key: k}
}

// enterKey notes the use of a key and applies its limits.
func (c *call) enterKey(pub *Published, k *Key) error {
	pub.directory.usage.touch(k.ID, time.Now())
	return c.enter(k.ID, "The key", k.Rate, k.Concurrent)
}

func (c *call) proveUser(pub *Published, authorization []string) proof {
	if len(authorization) == 0 || pub.Takes(AuthOAuth2) && len(authorization) == 1 && isBearer(authorization[0]) {
		return proof{err: c.unauthorised(pub, "logon-missing", "Send user name and password as Basic credentials.")}
	}
	const wrong = "User name and password are not those of a user of this connector."
	address := addressSource(c.from.remote)
	name, password, ok := "", "", false
	if len(authorization) == 1 {
		name, password, ok = basicCredentials(authorization[0])
	}
	if !ok || len(password) > maxPassword {
		return proof{err: c.refuse(pub, "logon-refused", "Authorization does not hold Basic credentials, once.", address)}
	}
	user := pub.user(name)
	now := time.Now()
	if user != nil && c.p.logons.known(user, password, now) {
		return proof{principal: "user:" + user.Name}
	}
	// Unlike keys, passwords are not looked at while the source has to wait: they can be guessed, and each costs a hash.
	sources := []source{address, nameSource(pub.path(), "user", name)}
	if wait := c.p.guard.wait(now, sources...); wait > 0 {
		return proof{err: c.slowed(pub, wait)}
	}
	right, err := c.p.logons.verify(c.r.Context(), user, password)
	if err != nil {
		return proof{err: err}
	}
	if !right {
		return proof{err: c.refuse(pub, "logon-refused", wrong, sources...)}
	}
	return proof{principal: "user:" + user.Name}
}

func isBearer(authorization string) bool {
	scheme, _, _ := strings.Cut(authorization, " ")
	return strings.EqualFold(scheme, "Bearer")
}

func (p *Published) user(name string) *User {
	for i := range p.users {
		if p.users[i].Name == name {
			return &p.users[i]
		}
	}
	return nil
}

// refuse counts a failure and words it: 401, or 429 once there were too many.
func (c *call) refuse(pub *Published, code, detail string, sources ...source) *Problem {
	if wait := c.p.guard.fail(time.Now(), pub.path(), sources...); wait > 0 {
		return c.slowed(pub, wait)
	}
	return c.unauthorised(pub, code, detail)
}

func (c *call) slowed(pub *Published, wait time.Duration) *Problem {
	return NewProblem("slowed", fmt.Sprintf("Too many attempts to authenticate have failed. Correct what %s/%s is called with, then wait.",
		pub.Gateway, pub.Name)).after(wait)
}

// unauthorised is a 401 with a challenge for each method that the connector takes (RFC 9110 section 11.6.1).
func (c *call) unauthorised(pub *Published, code, detail string) *Problem {
	p := NewProblem(code, detail)
	realm := `realm="` + pub.Gateway + "/" + pub.Name + `"`
	if pub.Takes(AuthKey) {
		// For keys no scheme is registered; this one says what a person needs.
		place := `, header="` + quotable(pub.keyHeader()) + `"`
		if pub.KeyQuery != "" {
			place += `, query="` + quotable(pub.KeyQuery) + `"`
		}
		p.Challenges = append(p.Challenges, "ApiKey "+realm+place)
	}
	if pub.Takes(AuthOAuth2) {
		invalid, scopes := "", pub.OAuth2.Scopes
		if code == "token-refused" {
			invalid, scopes = "invalid_token", nil
		}
		p.Challenges = append(p.Challenges, bearerChallenge(pub, invalid, detail, scopes))
	}
	if pub.Takes(AuthBasic) || pub.Takes(AuthWindows) {
		p.Challenges = append(p.Challenges, "Basic "+realm+`, charset="UTF-8"`)
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
