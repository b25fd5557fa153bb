package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/agent/winauth"
)

// maxLegs bounds a sign-on on one connection, whatever the token machine thinks: NTLM inside SPNEGO needs three, plus
// one that asks without a token.
const maxLegs = 5

// learned is what the upstream has shown about itself. It changes what is sent first, never what is accepted.
type learned struct {
	mu sync.Mutex // guards what follows
	// offers are the schemes of the last 401 to a request without a token; nil: it has not asked yet.
	offers []string
	// accepts says that a complete sign-on has been accepted last time.
	accepts bool
	// eachRequest says that the upstream forgot a signed-on connection at the very next request.
	eachRequest bool
}

func (l *learned) asked(challenges []string) {
	var offers []string
	for _, v := range challenges {
		for _, ch := range splitChallenges(v) {
			// Only the scheme: a token belongs to its connection.
			if scheme, _, _ := strings.Cut(ch, " "); isWindows(scheme) {
				offers = append(offers, scheme)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(offers) > 0 {
		l.offers = offers
	}
}

func (l *learned) wants() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.offers)
}

func (l *learned) setAccepts(yes bool) { l.mu.Lock(); l.accepts = yes; l.mu.Unlock() }

func (l *learned) willAccept() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.accepts }

func (l *learned) setEachRequest() { l.mu.Lock(); l.eachRequest = true; l.mu.Unlock() }

func (l *learned) perRequest() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.eachRequest }

// errAgain asks for the rest of a sign-on on a fresh connection: this one cannot go on, and the request was not run.
type errAgain struct {
	err error // what to say if there is no other try
}

func (e *errAgain) Error() string { return e.err.Error() }
func (e *errAgain) Unwrap() error { return e.err }

// refused is nil if another connection may be tried.
func (e *errAgain) refused(x *call) error {
	x.again++
	if x.again > 1 || x.ctx.Err() != nil || !x.canSend() {
		return &Error{Kind: AuthFailed, NotRun: true, Err: e.err}
	}
	return nil
}

// canSend says that the body can go out from its beginning.
func (x *call) canSend() bool { return x.body == nil || x.body.rewindable() }

// A signing is one sign-on over one connection.
type signing struct {
	x     *call
	c     *conn
	h     winauth.Handshake
	token winauth.Token
	ahead bool // token was sent before the upstream had asked
	legs  int
}

// signOn makes the call on a connection that Windows authentication has signed on, or signs it on.
func (x *call) signOn(c *conn) (*answer, error) {
	s := &signing{x: x, c: c}
	trusted := c.signed && !x.t.learned.perRequest()
	if !trusted {
		if err := s.first(); err != nil {
			return nil, err
		}
	}
	for s.legs = 1; s.legs <= maxLegs; s.legs++ {
		a, err := s.leg()
		if err != nil {
			return nil, err
		}
		if a.resp.StatusCode != http.StatusUnauthorized {
			return s.accepted(a)
		}
		if trusted {
			s.forgotten()
			trusted = false
		}
		if err := s.refused(a); err != nil {
			return nil, err
		}
	}
	return nil, s.failed(fmt.Errorf("the upstream still asks after %d requests", maxLegs))
}

// begin starts a token machine for the connection.
func (s *signing) begin() {
	s.h = s.x.sign.Credential.Handshake(winauth.Target{
		Host: s.x.t.cfg.URL.Hostname(), SPN: s.x.t.cfg.Auth.SPN, TLS: s.c.tls,
	})
}

// first makes the token that is sent ahead, where the upstream is known to ask for one. Where there is no complete one,
// the answer to what it is known to offer is an opening leg, which spares sending a body for nothing.
func (s *signing) first() error {
	offers := s.x.t.learned.wants()
	if offers == nil {
		return nil
	}
	defer s.spent(time.Now())
	s.begin()
	var err error
	if hasNegotiate(offers) { // an upstream that offers NTLM alone cannot read a Kerberos token
		s.token, err = s.h.Ahead(s.x.ctx)
		s.ahead = s.token.Value != ""
	}
	if err == nil && s.token.Value == "" {
		s.token, err = s.h.Answer(s.x.ctx, offers)
	}
	if err != nil {
		return s.failed(err)
	}
	return nil
}

// hasNegotiate says whether one of the challenges is for Negotiate.
func hasNegotiate(challenges []string) bool {
	for _, v := range challenges {
		for _, ch := range splitChallenges(v) {
			if scheme, _, _ := strings.Cut(ch, " "); strings.EqualFold(scheme, "Negotiate") {
				return true
			}
		}
	}
	return false
}

// spent adds the time since began to what signing on has cost.
func (s *signing) spent(began time.Time) { s.x.times.Auth += time.Since(began) }

// leg sends the request under the current token. Under an opening one its body stays here: the upstream cannot run it.
// Under any other it goes out whole.
func (s *signing) leg() (*answer, error) {
	x := s.x
	l := leg{authorization: s.token.Value, withhold: s.token.Opening && x.body != nil}
	if x.body != nil && !l.withhold {
		if !x.body.rewindable() {
			return nil, s.failed(errors.New("the upstream asked for authentication when the body was under way and too large to be kept"))
		}
		l.expect = x.callerExpects() || !x.body.small() && !s.sure()
	}
	sum := &x.times.Upstream
	if s.token.Opening {
		sum = &x.times.Auth
	}
	a, err := x.timed(s.c, l, sum)
	if lost, ok := errors.AsType[*errLost](err); ok && s.legs > 1 && (s.token.Opening || !lost.wrote) {
		// The upstream closed in the middle of the sign-on, before it could run anything.
		return nil, &errAgain{err: fmt.Errorf("sign on: %w", err)}
	}
	return a, err
}

// sure says that the upstream will take the body: the connection is signed on, or this is the last leg of a sign-on
// that it has accepted before.
func (s *signing) sure() bool {
	if s.token.Value == "" {
		return s.c.signed
	}
	return s.x.t.learned.willAccept()
}

// forgotten notes a 401 on a connection that was signed on. If that happens at the first request after the sign-on, the
// upstream authenticates each request.
func (s *signing) forgotten() {
	if s.c.served == 0 {
		s.x.t.learned.setEachRequest()
	}
	s.c.signed = false
}

// refused takes a 401 and makes the next token, or asks for another connection.
func (s *signing) refused(a *answer) error {
	defer s.spent(time.Now())
	x := s.x
	challenges := slices.Clone(a.resp.Header.Values("WWW-Authenticate"))
	if s.token.Value == "" {
		x.t.learned.asked(challenges)
	} else if !s.token.Opening {
		x.t.learned.setAccepts(false)
	}
	if s.ahead && !hasNegotiate(challenges) {
		x.t.learned.asked(challenges) // it has changed its mind since: begin with what it offers now
		s.h = nil
	}
	s.ahead = false
	goesOn := a.drain()
	if s.h == nil {
		s.begin()
	}
	if !goesOn && s.token.Value == "" && x.t.learned.wants() != nil {
		// Nothing has begun yet on this connection; another one does as well.
		return &errAgain{err: errors.New("the upstream asks for authentication and closes the connection")}
	}
	var err error
	if s.token, err = s.h.Answer(x.ctx, challenges); err != nil {
		return s.failed(err)
	}
	if !goesOn {
		return &errAgain{err: errors.New("the upstream closed the connection in the middle of the sign-on")}
	}
	return nil
}

// accepted takes the answer that was not 401: the upstream proves itself, and the connection is signed on if it says so.
func (s *signing) accepted(a *answer) (*answer, error) {
	resp, c := a.resp, s.c
	challenges := resp.Header.Values("WWW-Authenticate")
	persistent := resp.Header.Get("Persistent-Auth")
	if s.token.Value == "" {
		if s.c.signed {
			c.served++
			s.x.protocol, s.x.vouched = c.protocol, true
		}
		return s.clean(a), nil
	}
	if s.token.Opening {
		return s.answeredOpening(a)
	}
	defer s.spent(time.Now())
	if err := s.h.Finish(challenges); err != nil {
		return nil, &Error{Kind: AuthFailed, Err: fmt.Errorf("sign on as %s: %w", s.x.sign.Credential.Identity(), err)}
	}
	s.x.protocol, s.x.proved = s.h.Protocol(), true
	c.protocol = s.x.protocol
	s.x.t.learned.setAccepts(true)
	// NTLM signs on the connection (MS-NTHT section 1.3); for Kerberos only the upstream knows, and IIS says so. Where
	// nothing is said each request carries a token: never a request that would be run as nobody.
	c.signed = strings.Contains(s.x.protocol, "ntlm") && !strings.EqualFold(persistent, "false") ||
		strings.EqualFold(persistent, "true")
	c.served = 0
	if e, ok := s.h.(winauth.Expiring); ok && c.signed && !e.Expires().IsZero() && e.Expires().Before(c.ends) {
		c.ends = e.Expires()
	}
	return s.clean(a), nil
}

// answeredOpening takes an answer to a first leg that is no challenge. Without a body it is the answer to the request;
// with one withheld, only a refusal or a fault can be passed on.
func (s *signing) answeredOpening(a *answer) (*answer, error) {
	if s.x.body == nil || a.resp.StatusCode >= 400 {
		return s.clean(a), nil
	}
	return nil, &Error{Kind: AuthFailed, Err: fmt.Errorf("the upstream answered %d to the first leg of a sign-on", a.resp.StatusCode)}
}

// clean removes what signing on has left in an answer.
func (s *signing) clean(a *answer) *answer {
	a.resp.Header.Del("WWW-Authenticate")
	a.resp.Header.Del("Persistent-Auth")
	if s.x.protocol == "" && s.h != nil {
		s.x.protocol = s.h.Protocol()
	}
	return a
}

// failed is a sign-on that ended in a refusal: the request was not run.
func (s *signing) failed(err error) error {
	if s.h != nil {
		s.x.tried = s.h.Protocol()
	}
	return &Error{Kind: AuthFailed, NotRun: true, Err: fmt.Errorf("sign on as %s: %w", s.x.sign.Credential.Identity(), err)}
}
