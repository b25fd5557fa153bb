// Package gate is the other side of Windows authentication: an http.Handler that lets nobody in who has not proved a
// password by NTLMv2, raw or inside SPNEGO, with channel bindings if wanted. The proof is truly verified. It serves the
// demonstration's internal API and tests; it knows no Kerberos and is no replacement for a web server's own.
//
// As with IIS, the identity belongs to the connection: put Gate.ConnContext into http.Server, and switch HTTP/2 off.
package gate

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"sallyport/agent/winauth"
	"sallyport/agent/winauth/ntlm"
	"sallyport/agent/winauth/spnego"
)

// Gate demands a sign-on before Next.
type Gate struct {
	// Verifier checks the proofs.
	Verifier *ntlm.Verifier
	// Schemes are offered in this order; empty means Negotiate and NTLM.
	Schemes []string
	// Certificate is the server's leaf, for the channel binding of requests that come over TLS; nil without TLS.
	Certificate *x509.Certificate
	// Next answers who is let in; UserOf tells it who that is.
	Next http.Handler
	// Log gets refusals with their reasons; nil is silence.
	Log *slog.Logger
}

type (
	connKey struct{}
	userKey struct{}
)

// connState is what a connection has shown so far.
type connState struct {
	mu      sync.Mutex // guards the rest
	session *ntlm.Session
	wrapped bool   // the handshake goes inside SPNEGO
	mechs   []byte // the list over which a MIC is due, nil if none is
	user    *ntlm.Identity
}

// ConnContext is for http.Server.ConnContext.
func (g *Gate) ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, new(connState))
}

// UserOf says who sent the request that Next answers.
func UserOf(r *http.Request) (ntlm.Identity, bool) {
	id, ok := r.Context().Value(userKey{}).(ntlm.Identity)
	return id, ok
}

// ServeHTTP implements http.Handler.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	state, ok := r.Context().Value(connKey{}).(*connState)
	if !ok || r.ProtoMajor != 1 {
		http.Error(w, "the server lacks Gate.ConnContext or speaks HTTP/2", http.StatusInternalServerError)
		return
	}
	state.mu.Lock()
	user, scheme, reply, err := g.step(state, r)
	state.mu.Unlock()
	switch {
	case err != nil:
		g.log().InfoContext(r.Context(), "sign-on refused", "error", err, "remote", r.RemoteAddr)
		g.ask(w)
	case user == nil && scheme != "":
		w.Header().Set("WWW-Authenticate", value(scheme, reply))
		http.Error(w, "go on", http.StatusUnauthorized)
	case user == nil:
		g.ask(w)
	default:
		if len(reply) > 0 {
			w.Header().Set("WWW-Authenticate", value(scheme, reply))
		}
		g.Next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, *user)))
	}
}

func value(scheme string, token []byte) string {
	return scheme + " " + base64.StdEncoding.EncodeToString(token)
}

func (g *Gate) log() *slog.Logger {
	if g.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return g.Log
}

func (g *Gate) schemes() []string {
	if len(g.Schemes) == 0 {
		return []string{"Negotiate", "NTLM"}
	}
	return g.Schemes
}

func (g *Gate) ask(w http.ResponseWriter) {
	for _, s := range g.schemes() {
		w.Header().Add("WWW-Authenticate", s)
	}
	http.Error(w, "sign on first", http.StatusUnauthorized)
}

// step takes a request's token: it gives the user when one is known, or else a token to go on with.
func (g *Gate) step(c *connState, r *http.Request) (user *ntlm.Identity, scheme string, reply []byte, err error) {
	field := r.Header.Get("Authorization")
	if field == "" {
		return c.user, "", nil, nil
	}
	c.user = nil // whoever signs on anew is nobody until that is done
	scheme, text, _ := strings.Cut(field, " ")
	if !slices.ContainsFunc(g.schemes(), func(s string) bool { return strings.EqualFold(s, scheme) }) {
		return nil, "", nil, errors.New("the scheme is not offered")
	}
	token, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, "", nil, errors.New("the token is not Base64")
	}
	switch {
	case bytes.HasPrefix(token, []byte(ntlm.Signature)):
		c.wrapped, c.mechs = false, nil
		user, reply, err = g.raw(c, r, token)
	case spnego.IsInit(token):
		reply, err = g.init(c, r, token)
	default:
		user, reply, err = g.resp(c, r, token)
	}
	if err != nil {
		c.session = nil
	}
	return user, scheme, reply, err
}

// raw is NTLM's own two steps.
func (g *Gate) raw(c *connState, r *http.Request, token []byte) (*ntlm.Identity, []byte, error) {
	if _, err := ntlm.ParseNegotiate(token); err == nil {
		var challenge []byte
		c.session, challenge, err = g.Verifier.Challenge(token, g.binding(r))
		return nil, challenge, err
	}
	if c.session == nil {
		return nil, nil, errors.New("a proof without a challenge")
	}
	id, err := c.session.Verify(token)
	if err != nil {
		return nil, nil, err
	}
	c.user = &id
	return c.user, nil, nil
}

func (g *Gate) binding(r *http.Request) []byte {
	if r.TLS == nil || g.Certificate == nil {
		return nil
	}
	return winauth.EndPoint(g.Certificate)
}

// init takes a NegTokenInit. If NTLM is in the list but not first, it is chosen, the first token is passed over, and the
// list must be signed, so that nobody on the way can have turned it round (RFC 4178 section 5).
func (g *Gate) init(c *connState, r *http.Request, token []byte) ([]byte, error) {
	t, err := spnego.ParseInit(token)
	if err != nil {
		return nil, err
	}
	c.session, c.wrapped, c.mechs = nil, true, nil
	if !slices.Contains(t.Mechs, spnego.NTLM) {
		return nil, errors.New("NTLM is not in the list")
	}
	if t.Mechs[0] != spnego.NTLM {
		c.mechs = t.RawMechs
		return spnego.Resp{State: spnego.RequestMIC, Mech: spnego.NTLM}.Marshal()
	}
	_, challenge, err := g.raw(c, r, t.Token)
	if err != nil {
		return nil, err
	}
	return spnego.Resp{State: spnego.Incomplete, Mech: spnego.NTLM, Token: challenge}.Marshal()
}

func (g *Gate) resp(c *connState, r *http.Request, token []byte) (*ntlm.Identity, []byte, error) {
	t, err := spnego.ParseResp(token)
	if err != nil {
		return nil, nil, err
	}
	if !c.wrapped {
		return nil, nil, errors.New("a NegTokenResp without a NegTokenInit")
	}
	user, challenge, err := g.raw(c, r, t.Token)
	if err != nil {
		return nil, nil, err
	}
	if user == nil {
		reply, err := spnego.Resp{State: spnego.Incomplete, Token: challenge}.Marshal()
		return nil, reply, err
	}
	done := spnego.Resp{State: spnego.Accepted}
	if c.mechs != nil {
		if !c.session.CheckSignature(c.mechs, t.MIC) {
			c.user = nil
			return nil, nil, errors.New("the list of mechanisms is not signed, or not so")
		}
		done.MIC = c.session.Sign(c.mechs)
	}
	reply, err := done.Marshal()
	return user, reply, err
}
