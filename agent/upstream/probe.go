package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A Look is what an API shows to who asks without a credential.
type Look struct {
	// Method and Target are what it was asked.
	Method, Target string
	// TLS is the connection's state, nil over plain HTTP.
	TLS *tls.ConnectionState
	// Status is what it answered.
	Status int
	// Schemes are the kinds of authentication that it asks for, by name alone.
	Schemes []string
}

// lookLimit bounds what is read of an answer's head.
const lookLimit = 64 << 10

// Look asks the API once, for what target names below its base path, without any credential and whatever the API's own
// is. It is for who examines the API: nothing of it comes from a caller. The error is an *Error: Unreachable and TLSFailed
// say that it was not asked; with any other the Look has the TLS state.
func (t *Transport) Look(ctx context.Context, method, target string) (*Look, error) {
	l := &Look{Method: method, Target: t.base + target}
	if l.Target == "" {
		l.Target = "/"
	}
	c, err := t.dial(ctx, poolKey{})
	if err != nil {
		return l, err
	}
	defer c.abort()
	defer context.AfterFunc(ctx, c.abort)()
	l.TLS = c.tls
	if err := l.ask(c, t.host); err != nil {
		if ctx.Err() != nil {
			return l, &Error{Kind: TimedOut, Err: errors.New("no answer in time")}
		}
		return l, &Error{Kind: Broken, Err: fmt.Errorf("ask for %s %s: %w", method, l.Target, err)}
	}
	return l, nil
}

func (l *Look) ask(c *conn, host string) error {
	q := &http.Request{
		Method: l.Method, Host: host, URL: &url.URL{Opaque: l.Target}, Close: true,
		Header: http.Header{"User-Agent": {"sallyport-agent"}},
	}
	if err := q.Write(c.nc); err != nil {
		return err
	}
	from := bufio.NewReader(io.LimitReader(c.nc, lookLimit))
	for {
		resp, err := http.ReadResponse(from, q)
		if err != nil {
			return err
		}
		if resp.StatusCode/100 == 1 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		l.Status, l.Schemes = resp.StatusCode, schemes(resp.Header.Values("WWW-Authenticate"))
		return nil
	}
}

// maxSchemes bounds how many kinds of authentication are told.
const maxSchemes = 8

// schemes are the names of the challenges' kinds, each once, as they are written first.
func schemes(challenges []string) (names []string) {
	for _, v := range challenges {
		for _, ch := range splitChallenges(v) {
			name, _, _ := strings.Cut(ch, " ")
			known := slices.ContainsFunc(names, func(s string) bool { return strings.EqualFold(s, name) })
			if !known && name != "" && len(names) < maxSchemes && validMethod(name) { // a token, as methods are (RFC 9110 section 11.1)
				names = append(names, name)
			}
		}
	}
	return names
}

// A Trial is one call with the API's own credential.
type Trial struct {
	// Status is what the API answered.
	Status int
	// Protocol is how Windows authentication was done, Identity as whom; both empty for other kinds.
	Protocol, Identity string
}

// Try makes one call without a body, for what target names below the base path, as Serve makes a caller's. The answer's body
// is not read. Errors are *Error.
func (t *Transport) Try(ctx context.Context, method, target string) (Trial, error) {
	q := (&http.Request{
		Method: method,
		URL:    &url.URL{Scheme: t.cfg.URL.Scheme, Host: t.cfg.URL.Host, Opaque: t.base + target},
		Header: http.Header{"User-Agent": {"sallyport-agent"}, "Accept": {"*/*"}},
	}).WithContext(ctx)
	x := t.newCall(ctx, q, t.cfg.Timeout)
	resp, err := x.run()
	out := Trial{Protocol: x.protocol}
	if out.Protocol == "" {
		out.Protocol = x.tried
	}
	if x.sign.Credential != nil {
		out.Identity = x.sign.Credential.Identity()
	}
	if err != nil {
		return out, err
	}
	out.Status = resp.StatusCode
	return out, resp.Body.Close()
}
