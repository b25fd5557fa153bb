package upstream

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// field is the name and value that carry the agent's credential.
func (a Auth) field(secret string) [2]string {
	switch a.Kind {
	case BasicAuth:
		return [2]string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(a.User+":"+secret))}
	case BearerAuth:
		return [2]string{"Authorization", "Bearer " + secret}
	case HeaderAuth:
		return [2]string{http.CanonicalHeaderKey(a.Header), secret}
	}
	return [2]string{}
}

// writeHead puts the request's head into the connection's buffer. The request was checked before.
func (x *call) writeHead(c *conn, l leg, expect bool) error {
	w := c.bw.Writer
	method := x.req.Method
	if method == "" {
		method = http.MethodGet
	}
	_, _ = w.WriteString(method)
	_ = w.WriteByte(' ')
	_, _ = w.WriteString(target(x.req.URL))
	_, _ = w.WriteString(" HTTP/1.1\r\nHost: ")
	_, _ = w.WriteString(x.t.host)
	_, _ = w.WriteString("\r\n")
	x.writeFraming(w, l)
	if expect {
		writeField(w, "Expect", "100-continue")
	}
	x.writeConnection(w)
	if err := x.writeCredential(w, l); err != nil {
		return err
	}
	x.writeEndToEnd(w)
	_, err := w.WriteString("\r\n")
	return err
}

// writeFraming says how long the body is, and announces its trailers.
func (x *call) writeFraming(w *bufio.Writer, l leg) {
	switch {
	case l.withhold || x.body == nil && bodyUsual(x.req.Method):
		writeField(w, "Content-Length", "0")
	case x.body == nil:
	case x.body.length >= 0:
		writeField(w, "Content-Length", strconv.FormatInt(x.body.length, 10))
	default:
		writeField(w, "Transfer-Encoding", "chunked")
		if names := trailerNames(x.req.Trailer); names != "" {
			writeField(w, "Trailer", names)
		}
	}
}

// bodyUsual are the methods of which an upstream may demand a length even for no body (RFC 9110 section 8.6).
func bodyUsual(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

func trailerNames(h http.Header) string {
	var names []string
	for k := range h {
		if k = http.CanonicalHeaderKey(k); !forbiddenTrailer(k) {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// writeConnection writes the fields of this hop.
func (x *call) writeConnection(w *bufio.Writer) {
	var options []string
	if x.upgrade != "" {
		writeField(w, "Upgrade", x.upgrade)
		options = append(options, "Upgrade")
	}
	if httpguts.HeaderValuesContainsToken(x.req.Header["Te"], "trailers") {
		writeField(w, "TE", "trailers")
		options = append(options, "TE")
	}
	if x.req.Close {
		options = append(options, "close")
	}
	if len(options) > 0 {
		writeField(w, "Connection", strings.Join(options, ", "))
	}
}

// writeCredential writes what signs the request on, unless the connection already does.
func (x *call) writeCredential(w *bufio.Writer, l leg) error {
	name, value := x.secret[0], x.secret[1]
	switch {
	case l.authorization != "":
		name, value = "Authorization", l.authorization
	case name == "" && x.t.cfg.Auth.Kind == Passthrough:
		// Negotiate and NTLM would sign on the connection, which other callers share.
		if v := x.req.Header.Get("Authorization"); v != "" && !isWindows(v) {
			name, value = "Authorization", v
		}
	}
	if name == "" {
		return nil
	}
	if !httpguts.ValidHeaderFieldValue(value) {
		return &Error{Kind: AuthFailed, NotRun: true, Err: fmt.Errorf("the credential for the field %s has a control byte", name)}
	}
	writeField(w, name, value)
	return nil
}

// writeEndToEnd writes the caller's fields, without those of a hop and those that this package writes itself.
func (x *call) writeEndToEnd(w *bufio.Writer) {
	hop := connectionNames(x.req.Header)
	for k, vv := range x.req.Header {
		name := http.CanonicalHeaderKey(k)
		if ownField(name) || name == "Authorization" || strings.EqualFold(name, x.secret[0]) {
			continue
		}
		if len(hop) > 0 && slices.Contains(hop, name) && !keptFromConnection(name) {
			continue
		}
		for _, v := range vv {
			writeField(w, k, v)
		}
	}
}

func writeField(w *bufio.Writer, name, value string) {
	_, _ = w.WriteString(name) // bufio keeps the first error for Flush
	_, _ = w.WriteString(": ")
	_, _ = w.WriteString(textproto.TrimString(value))
	_, _ = w.WriteString("\r\n")
}

func validMethod(m string) bool { return m == "" || httpguts.ValidHeaderFieldName(m) }

// validTarget admits an origin-form target without bytes that would end the request line or begin a fragment.
func validTarget(s string) bool {
	if !strings.HasPrefix(s, "/") {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f || s[i] == '#' {
			return false
		}
	}
	return true
}

func checkFields(h http.Header) error {
	for k, vv := range h {
		if !httpguts.ValidHeaderFieldName(k) {
			return fmt.Errorf("invalid field name %q", k)
		}
		for _, v := range vv {
			if !httpguts.ValidHeaderFieldValue(v) {
				return fmt.Errorf("the field %s has an invalid value", k)
			}
		}
	}
	return nil
}
