// Package issuer verifies signature, issuer and time of OpenID Connect tokens, with the keys that the issuer publishes.
//
// It does not judge what a token is for: audience, roles and the rest are the caller's (relay/admin, relay/gateway/entra).
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
}

// New makes an Issuer; it does not touch the network. The system's trust store and the environment's proxy count.
func New(url string) *Issuer {
	return &Issuer{
		url: url, finding: make(chan struct{}, 1),
		http: &http.Client{Timeout: fetchTimeout, Transport: &seldom{
			next: http.DefaultTransport.(*http.Transport).Clone(), limit: rate.NewLimiter(rate.Every(fetchEvery), fetchBurst),
			kept: map[string]*answer{},
		}},
	}
}

// URL is the issuer's, exactly as its tokens have it.
func (i *Issuer) URL() string { return i.url }

// Verify gives a token whose signature and time hold, which is signed by one of the algorithms, and which names the issuer
// name. The audience has not been looked at.
func (i *Issuer) Verify(ctx context.Context, raw, name string, algorithms []string) (*oidc.IDToken, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*fetchTimeout)
	defer cancel()
	keys, err := i.keySet(ctx)
	if err != nil {
		return nil, &Unavailable{err}
	}
	watched := &fetches{set: keys}
	token, err := oidc.NewVerifier(name, watched, &oidc.Config{SkipClientIDCheck: true, SupportedSigningAlgs: algorithms}).Verify(ctx, raw)
	if err != nil && watched.failed {
		return nil, &Unavailable{fmt.Errorf("fetch the keys of %s: %w", i.url, err)}
	}
	return token, err
}

// keySet finds out where the keys are, once. While that fails, each token tries again, as often as the issuer may be asked.
func (i *Issuer) keySet(ctx context.Context) (oidc.KeySet, error) {
	select {
	case i.finding <- struct{}{}:
		defer func() { <-i.finding }()
	case <-ctx.Done():
		return nil, fmt.Errorf("read the configuration of %s: %w", i.url, context.Cause(ctx))
	}
	if i.keys != nil {
		return i.keys, nil
	}
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, i.http), i.url)
	if err != nil {
		return nil, fmt.Errorf("read the configuration of %s: %w", i.url, err)
	}
	var doc struct {
		Keys string `json:"jwks_uri"`
	}
	if err := p.Claims(&doc); err != nil {
		return nil, fmt.Errorf("read the configuration of %s: %w", i.url, err)
	}
	if u, err := url.Parse(doc.Keys); err != nil || u.Scheme != "https" && !Loopback(u) {
		return nil, fmt.Errorf("the configuration of %s names %.120q as the place of its keys; https is needed", i.url, doc.Keys)
	}
	// The key set outlives this request: it fetches again when a token names a key that it does not know.
	i.keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.WithoutCancel(ctx), i.http), doc.Keys)
	return i.keys, nil
}

// Loopback says that a URL is plain HTTP to this machine itself, which needs no TLS.
func Loopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// fetches tells a signature that does not hold from keys that could not be had; go-oidc words both in one error.
type fetches struct {
	set    oidc.KeySet
	failed bool
}

func (f *fetches) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := f.set.VerifySignature(ctx, jwt)
	f.failed = err != nil && strings.Contains(err.Error(), "fetching keys")
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
