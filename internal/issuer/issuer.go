// Package issuer verifies signature, issuer and time of OpenID Connect tokens, with the keys that the issuer publishes.
//
// It does not judge what a token is for: audience, roles and the rest are the caller's (relay/admin, relay/gateway/entra,
// internal/bearer). Relay and agent each ask the issuer for themselves; neither takes the other's word for a key.
// Anybody can send a token that names a key nobody has heard of; however many come, the issuer is asked seldom.
//
//	i := issuer.New("https://login.example.com/tenant/v2.0")
//	token, err := i.Verify(ctx, raw, i.URL(), issuer.PublicKeyAlgorithms())   // *Unavailable: the keys cannot be had
package issuer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"
)

const (
	// fetchTimeout bounds each request to the issuer: whoever shows a token waits for it.
	fetchTimeout = 5 * time.Second
	// answerLimit bounds what is read of an answer.
	answerLimit = 1 << 20
	// fetchBurst requests may go to the issuer at once, and then one each fetchEvery. An issuer announces a new key long
	// before it signs with it, so that much is plenty.
	fetchBurst = 8
	fetchEvery = 10 * time.Second
	// maxKept bounds the answers that are kept.
	maxKept = 8
	// maxRedirects bounds how often an issuer may point elsewhere.
	maxRedirects = 3
	// keysLife is after how long the keys are read anew, so that one that the issuer has withdrawn ends; keysRetry is
	// when that is tried again if the issuer cannot be had. The known keys count meanwhile.
	keysLife  = time.Hour
	keysRetry = time.Minute
)

// Unavailable is the error of a token that could not be judged, because the issuer's keys cannot be had.
type Unavailable struct{ Err error }

func (e *Unavailable) Error() string { return e.Err.Error() }
func (e *Unavailable) Unwrap() error { return e.Err }

// PublicKeyAlgorithms are those with a public key: "none" and those with a shared secret never count.
func PublicKeyAlgorithms() []string {
	return []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}
}

// An Issuer has the keys of one OpenID Connect issuer. Safe for concurrent use.
type Issuer struct {
	url  string
	http *http.Client

	finding chan struct{} // capacity 1: who holds it may look for keys
	keys    oidc.KeySet   // guarded by finding; nil before the first token
	due     time.Time     // when the keys are to be read anew; guarded by finding
}

// Endpoints are where people and programs get tokens of the issuer.
type Endpoints struct{ Authorization, Token string }

// New makes an Issuer; it does not touch the network. The system's trust store and the environment's proxy count.
func New(url string) *Issuer {
	return Through(url, http.DefaultTransport.(*http.Transport).Clone())
}

// Through makes an Issuer that is asked by way of a transport of the caller's, with its proxy and trust store.
func Through(url string, next http.RoundTripper) *Issuer {
	return &Issuer{
		url: url, finding: make(chan struct{}, 1),
		http: &http.Client{Timeout: fetchTimeout, CheckRedirect: stayRemote, Transport: &seldom{
			next: next, limit: rate.NewLimiter(rate.Every(fetchEvery), fetchBurst),
			kept: map[string]*answer{},
		}},
	}
}

// stayRemote keeps an issuer elsewhere from leading the relay to addresses of its own surroundings.
func stayRemote(q *http.Request, before []*http.Request) error {
	if q.URL.Scheme != "https" && !Loopback(before[0].URL) || len(before) > maxRedirects {
		return fmt.Errorf("the issuer redirects to %.120q, which is not followed", q.URL.Redacted())
	}
	return nil
}

// URL is the issuer's, exactly as its tokens have it.
func (i *Issuer) URL() string { return i.url }

// Verify gives a token whose signature and time hold, which is signed by one of the algorithms, and which names the issuer
// name. The audience has not been looked at.
func (i *Issuer) Verify(ctx context.Context, raw, name string, algorithms []string) (*oidc.IDToken, error) {
	token, _, err := i.verify(ctx, raw, name, &oidc.Config{SkipClientIDCheck: true, SupportedSigningAlgs: algorithms})
	return token, err
}

// Signed says with an error whether one of the issuer's keys has signed a token by one of the algorithms. Nothing of what it
// says has been looked at, not even the issuer's name and the time: that is for those who word each fault by itself.
func (i *Issuer) Signed(ctx context.Context, raw string, algorithms []string) error {
	_, signed, err := i.verify(ctx, raw, "", &oidc.Config{SkipClientIDCheck: true, SkipExpiryCheck: true, SkipIssuerCheck: true, SupportedSigningAlgs: algorithms})
	if signed {
		return nil
	}
	return err
}

// verify says whether the signature holds even if the rest does not.
func (i *Issuer) verify(ctx context.Context, raw, name string, c *oidc.Config) (token *oidc.IDToken, signed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*fetchTimeout)
	defer cancel()
	keys, due, err := i.keySet(ctx)
	if err != nil {
		return nil, false, &Unavailable{err}
	}
	if due {
		if fresh, err := i.find(ctx); err == nil {
			watched := &fetches{set: fresh}
			token, err := oidc.NewVerifier(name, watched, c).Verify(ctx, raw)
			if watched.had {
				i.adopt(fresh) // whoever signed this token: these are the issuer's keys now
				return token, watched.signed, err
			}
		}
	}
	watched := &fetches{set: keys}
	token, err = oidc.NewVerifier(name, watched, c).Verify(ctx, raw)
	if err != nil && watched.failed {
		return nil, false, &Unavailable{fmt.Errorf("fetch the keys of %s: %w", i.url, err)}
	}
	return token, watched.signed, err
}

// keySet gives the known keys, or finds out where they are. While that fails, each token tries again, as often as the issuer
// may be asked. Due says that the keys are old, and that whoever asked is to look for new ones.
func (i *Issuer) keySet(ctx context.Context) (keys oidc.KeySet, due bool, err error) {
	select {
	case i.finding <- struct{}{}:
		defer func() { <-i.finding }()
	case <-ctx.Done():
		return nil, false, fmt.Errorf("read the configuration of %s: %w", i.url, context.Cause(ctx))
	}
	now := time.Now()
	if i.keys == nil {
		if i.keys, err = i.find(ctx); err != nil {
			return nil, false, err
		}
		i.due = now.Add(keysLife)
		return i.keys, false, nil
	}
	if due = now.After(i.due); due {
		i.due = now.Add(keysRetry)
	}
	return i.keys, due, nil
}

// adopt puts keys in the place of old ones.
func (i *Issuer) adopt(fresh oidc.KeySet) {
	i.finding <- struct{}{} // nobody holds it for long once there are keys
	defer func() { <-i.finding }()
	i.keys, i.due = fresh, time.Now().Add(keysLife)
}

// find reads the issuer's configuration, which names the place of its keys.
func (i *Issuer) find(ctx context.Context) (oidc.KeySet, error) {
	c, err := i.configuration(ctx)
	if err != nil {
		return nil, err
	}
	if safe(c.Keys) == "" {
		return nil, fmt.Errorf("the configuration of %s names %.120q as the place of its keys; https is needed", i.url, c.Keys)
	}
	// The key set outlives this request: it fetches again when a token names a key that it does not know.
	return oidc.NewRemoteKeySet(oidc.ClientContext(context.WithoutCancel(ctx), i.http), c.Keys), nil
}

// Endpoints reads where tokens are to be had. A place that is neither https nor on this machine is left out.
func (i *Issuer) Endpoints(ctx context.Context) (Endpoints, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	c, err := i.configuration(ctx)
	if err != nil {
		return Endpoints{}, &Unavailable{err}
	}
	return Endpoints{Authorization: safe(c.Authorization), Token: safe(c.Token)}, nil
}

func safe(place string) string {
	if u, err := url.Parse(place); err != nil || u.Scheme != "https" && !Loopback(u) {
		return ""
	}
	return place
}

// A configuration is what of an issuer's own description is needed here (OpenID Connect Discovery 1.0 section 3).
type configuration struct {
	Keys          string `json:"jwks_uri"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
}

func (i *Issuer) configuration(ctx context.Context) (c configuration, err error) {
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, i.http), i.url)
	if err == nil {
		err = p.Claims(&c)
	}
	if err != nil {
		return c, fmt.Errorf("read the configuration of %s: %w", i.url, err)
	}
	return c, nil
}

// Loopback says that a URL is plain HTTP to this machine itself, which needs no TLS.
func Loopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// fetches tells a signature that does not hold from keys that could not be had; go-oidc words both in one error.
type fetches struct {
	set         oidc.KeySet
	had, failed bool // the keys were at hand, or could not be had; neither, if the token is too broken to look for them
	signed      bool // the signature holds
}

func (f *fetches) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := f.set.VerifySignature(ctx, jwt)
	f.failed = err != nil && strings.Contains(err.Error(), "fetching keys")
	f.had, f.signed = !f.failed, err == nil
	return payload, err
}

// seldom asks the issuer as often as limit allows. Beyond that it answers with what the issuer said last.
type seldom struct {
	next  http.RoundTripper
	limit *rate.Limiter

	mu   sync.Mutex
	kept map[string]*answer // by URL: configuration and keys; guarded by mu
}

type answer struct {
	resp http.Response
	body []byte
}

var errSeldom = errors.New("the issuer was asked often enough for now; it is asked again within seconds")

func (s *seldom) RoundTrip(q *http.Request) (*http.Response, error) {
	if !s.limit.Allow() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if a := s.kept[q.URL.String()]; a != nil {
			return a.again(q), nil
		}
		return nil, errSeldom
	}
	resp, err := s.next.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return nil, err
	}
	a := &answer{resp: *resp, body: body}
	if resp.StatusCode == http.StatusOK {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.kept) >= maxKept {
			clear(s.kept) // an issuer that redirects here and there
		}
		s.kept[q.URL.String()] = a
	}
	return a.again(q), nil
}

func (a *answer) again(q *http.Request) *http.Response {
	resp := a.resp
	resp.Request, resp.Header = q, a.resp.Header.Clone()
	resp.Body = io.NopCloser(bytes.NewReader(a.body))
	return &resp
}
