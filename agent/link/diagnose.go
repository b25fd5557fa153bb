package link

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/gorilla/websocket"

	"sallyport/tunnel"
)

// A DialError says in which phase a dial failed, why, and what an admin can do about it.
type DialError struct {
	// Phase is what was being done: "connect", "open the WebSocket".
	Phase string
	// Mend is what may help; empty if nobody can say.
	Mend string
	// RetryAfter, if not zero, is how long the other side asked to wait.
	RetryAfter time.Duration
	Err        error
}

func (e *DialError) Error() string {
	s := e.Phase + ": " + e.Err.Error()
	if e.Mend != "" {
		s += " (" + e.Mend + ")"
	}
	return s
}

func (e *DialError) Unwrap() error { return e.Err }

// dialFailed names the usual faults of a network.
func dialFailed(phase, mend string, err error) error {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		mend = "the name does not resolve on this machine: look at its DNS, or set 'proxy' in agent.yaml if only the proxy resolves it"
		if !dns.IsNotFound {
			mend = "no name server of this machine answers: look at its DNS"
		}
	}
	return &DialError{Phase: phase, Mend: mend, Err: err}
}

// tlsFailed names who issued what was shown: a company that inspects TLS issues its own.
func tlsFailed(host string, err error) error {
	e := &DialError{Phase: "TLS with " + host, Err: err}
	verify, wrong := errors.AsType[*tls.CertificateVerificationError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	invalid, bad := errors.AsType[x509.CertificateInvalidError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	issuer := "an unnamed authority"
	if wrong && len(verify.UnverifiedCertificates) > 0 {
		issuer = fmt.Sprintf("%q", printable(verify.UnverifiedCertificates[0].Issuer.String(), 200))
	}
	switch {
	case unknown:
		e.Mend = "the certificate was issued by " + issuer + ", which this machine does not trust; if that is your company's " +
			"TLS inspection, name its root certificate as 'ca' in agent.yaml or exempt the relay from inspection"
	case name:
		e.Mend = "the certificate, issued by " + issuer + ", is for another name; is this the relay's URL?"
	case bad && invalid.Reason == x509.Expired:
		e.Mend = "is this machine's clock right? It says " + time.Now().UTC().Format(time.RFC3339) + "; if it is, the relay's admin has to renew the certificate"
	case plain:
		e.Mend = "what answers there does not speak TLS; is the port right, or does a portal of the network answer in its place?"
	case hungUp(err):
		e.Mend = "the connection was closed during TLS; a firewall may forbid it"
	}
	return e
}

// notUpgraded recognises what came back instead of 101.
func notUpgraded(resp *http.Response, err error) error {
	e := &DialError{Phase: "open the WebSocket", Err: err}
	if resp == nil {
		e.Mend = "is this the relay's URL?"
		if hungUp(err) {
			e.Mend = "the connection was closed without an answer; does a proxy or firewall forbid WebSockets?"
		}
		return e
	}
	if !errors.Is(err, websocket.ErrBadHandshake) {
		return e
	}
	e.RetryAfter = retryHeader(resp)
	e.Err = fmt.Errorf("answered %s", status(resp))
	if title, html := page(resp); html && resp.StatusCode != http.StatusSwitchingProtocols {
		e.Err = fmt.Errorf("answered %s with the web page %q", status(resp), title)
	}
	e.Mend = mendStatus(resp)
	return e
}

// hungUp reports whether the other side, or something on the way, has closed the connection or reset it.
func hungUp(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "read" && !op.Timeout()
}

func mendStatus(resp *http.Response) string {
	_, html := page(resp)
	switch code := resp.StatusCode; {
	case code == http.StatusSwitchingProtocols:
		return "the answer is not a proper WebSocket handshake; a proxy on the way may change or replay it"
	case code/100 == 2 && html:
		return "that is no relay: a sign-in page of the network or a proxy's notice answers in its place"
	case code/100 == 2, code == http.StatusUpgradeRequired, code == http.StatusBadRequest:
		return "something on the way removes the upgrade: let the proxy, or the balancer before the relay, pass WebSockets"
	case code/100 == 3:
		return "it points to " + location(resp) + "; is this the relay's URL, or does a portal of the network answer?"
	case code == http.StatusUnauthorized, code == http.StatusProxyAuthRequired:
		return "a relay asks for nothing here: a proxy or gateway on the way wants a sign-on (it offers " + challenges(resp) + ")"
	case code == http.StatusForbidden:
		return "a firewall or proxy forbids it, or the relay's own front does"
	case code == http.StatusNotFound:
		return "there is no relay at this URL"
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return "the relay or what stands before it is busy or starting"
	case code/100 == 5:
		return "what stands before the relay does not reach it"
	}
	return "is this the relay's URL?"
}

func challenges(resp *http.Response) string {
	if resp.StatusCode == http.StatusProxyAuthRequired {
		return schemes(resp)
	}
	return schemes(&http.Response{Header: http.Header{"Proxy-Authenticate": resp.Header.Values("Www-Authenticate")}})
}

// location is where a redirect points, without what may be secret in it.
func location(resp *http.Response) string {
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || u.Host == "" {
		return "another page"
	}
	return printable(u.Scheme+"://"+u.Host, 120)
}

var titleForm = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

// page says whether an answer is a web page, and its title.
func page(resp *http.Response) (title string, html bool) {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "text/html" {
		return "", false
	}
	seeker, ok := resp.Body.(io.Reader)
	if !ok {
		return "", true
	}
	body, _ := io.ReadAll(io.LimitReader(seeker, 4<<10))
	resp.Body = io.NopCloser(strings.NewReader(string(body))) // for the next who looks
	if m := titleForm.FindSubmatch(body); m != nil {
		title = printable(strings.Join(strings.Fields(string(m[1])), " "), 100)
	}
	return title, true
}

func status(resp *http.Response) string { return printable(resp.Status, 60) }

// retryHeader is Retry-After in seconds (RFC 9110 section 10.2.3); the form with a date needs equal clocks.
func retryHeader(resp *http.Response) time.Duration {
	n, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, int(longestWait/time.Second))) * time.Second
}

// printable makes a foreign string fit for a log line: one line, no control characters, bounded.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "..."
	}
	return s
}

// explainKey adds what to do when it is another relay.
func explainKey(err error) error {
	if !errors.Is(err, tunnel.ErrRelayKey) {
		return err
	}
	return &DialError{
		Phase: "verify the relay", Err: err,
		Mend: "nothing was told to it; if the relay was set up anew, join again with a new join string, " +
			"otherwise somebody else answers under its name",
	}
}
