package winauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sallyport/agent/winauth/kerberos"
	"sallyport/agent/winauth/ntlm"
	"sallyport/agent/winauth/spnego"
)

// maxLegs bounds the tokens of one handshake: Kerberos and, because the ticket was an old one, once more; or Kerberos,
// and at the server's wish NTLM's two.
const maxLegs = 4

type state int

const (
	idle         state = iota // nothing sent
	sentKerberos              // a complete token
	sentType1                 // NTLM's opening
	sentType3                 // NTLM's answer, a complete token
)

// handshake is one sign-on of a credential.
type handshake struct {
	cred   *credential
	target Target
	spn    string

	state  state
	legs   int
	failed error

	binding []byte // nil for none
	bound   bool   // binding has been worked out

	ticket  *kerberos.Ticket
	context *kerberos.Context
	again   bool  // a fresh ticket in place of a kept one has been tried
	without error // why Kerberos cannot be had

	ntlm     *ntlm.Client
	scheme   string        // of the NTLM legs: "ntlm" or "negotiate"
	raw      bool          // NTLM without SPNEGO around it
	mechs    []spnego.Mech // offered in the NegTokenInit
	fellBack bool          // NTLM was not the first choice: the list needs a MIC
	micSent  bool
}

// String, GoString and LogValue keep keys and tokens out of logs: fmt would walk into the fields.
func (h *handshake) String() string { return "sign-on of " + h.cred.id + " to " + h.spn }

// GoString is for %#v.
func (h *handshake) GoString() string { return h.String() }

// LogValue is for slog.
func (h *handshake) LogValue() slog.Value { return slog.StringValue(h.String()) }

// Protocol implements Handshake.
func (h *handshake) Protocol() string {
	switch {
	case h.ntlm != nil && h.scheme == "ntlm":
		return "ntlm"
	case h.ntlm != nil:
		return "negotiate/ntlm"
	case h.context != nil:
		return "kerberos"
	}
	return ""
}

// Expires implements Expiring.
func (h *handshake) Expires() time.Time {
	if h.ntlm != nil || h.ticket == nil {
		return time.Time{}
	}
	return h.ticket.Ends()
}

func (h *handshake) fail(err error) (Token, error) {
	h.failed = err
	return Token{}, err
}

// Ahead implements Handshake.
func (h *handshake) Ahead(ctx context.Context) (Token, error) {
	if h.failed != nil || h.state != idle {
		return Token{}, h.failed
	}
	if h.cred.options.Protocol == NTLM {
		return Token{}, nil
	}
	t, err := h.kerberos(ctx)
	if err != nil && h.mayFallBack(err) {
		return Token{}, nil // the server's 401 will lead on to NTLM
	}
	return t, err
}

// mayFallBack says whether NTLM may stand in after this error, and remembers why.
func (h *handshake) mayFallBack(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || !h.cred.ntlmAllowed() || (e.Kind != UnknownSPN && e.Kind != KDCUnreachable) {
		return false
	}
	h.failed, h.without = nil, err
	return true
}

// kerberos makes a complete Kerberos token.
func (h *handshake) kerberos(ctx context.Context) (Token, error) {
	if err := h.bind(); err != nil {
		return h.fail(err)
	}
	t, err := h.cred.ticket(ctx, h.spn)
	if err != nil {
		return h.fail(err)
	}
	x, mechToken, err := h.cred.krb.Initiate(t, h.binding)
	if err != nil {
		return h.fail(&Error{Kind: NotReady, Err: err})
	}
	h.mechs = []spnego.Mech{spnego.Kerberos, spnego.MSKerberos}
	if h.cred.ntlmAllowed() {
		h.mechs = append(h.mechs, spnego.NTLM)
	}
	token, err := spnego.Init{Mechs: h.mechs, Token: mechToken}.Marshal()
	if err != nil {
		return h.fail(&Error{Kind: NotReady, Err: err})
	}
	h.ticket, h.context, h.state = t, x, sentKerberos
	h.legs++
	return Token{Value: header("Negotiate", token)}, nil
}

func (h *handshake) bind() error {
	if h.bound {
		return nil
	}
	b, err := bindingFor(h.cred.options.ChannelBinding, h.target.TLS)
	h.binding, h.bound = b, err == nil
	return err
}

// Answer implements Handshake.
func (h *handshake) Answer(ctx context.Context, values []string) (Token, error) {
	if h.failed != nil {
		return Token{}, h.failed
	}
	if h.legs >= maxLegs {
		return h.fail(&Error{Kind: Rejected, Err: fmt.Errorf("%s keeps asking after %d tokens", h.spn, h.legs)})
	}
	list := parseChallenges(values)
	switch h.state {
	case idle:
		return h.begin(ctx, list)
	case sentKerberos:
		return h.afterKerberos(ctx, list)
	case sentType1:
		return h.afterType1(ctx, list)
	default:
		h.cred.refused.result(h.spn, false, h.cred.options.Clock())
		return h.fail(h.rejected("NTLM"))
	}
}

// begin answers the first 401.
func (h *handshake) begin(ctx context.Context, list []challenge) (Token, error) {
	_, negotiate := find(list, "negotiate")
	_, ntlmToo := find(list, "ntlm")
	protocol := h.cred.options.Protocol
	if protocol == NTLM {
		if ntlmToo {
			return h.openNTLM("ntlm")
		}
		if negotiate {
			return h.openNTLM("negotiate")
		}
		return h.fail(h.notOffered(list))
	}
	if !negotiate {
		if ntlmToo && h.cred.ntlmAllowed() {
			return h.openNTLM("ntlm")
		}
		return h.fail(h.notOffered(list))
	}
	if h.without == nil {
		t, err := h.kerberos(ctx)
		if err == nil || !h.mayFallBack(err) {
			return t, err
		}
	}
	h.cred.options.Log.Debug("kerberos cannot be had, trying NTLM", "credential", h.cred.id, "spn", h.spn, "error", h.without)
	return h.openNTLM("negotiate")
}

func (h *handshake) notOffered(list []challenge) error {
	have := "neither Negotiate nor NTLM"
	if len(list) > 0 {
		have = "only " + list[0].scheme
	}
	return &Error{
		Kind: NotOffered, Err: fmt.Errorf("%s offers %s, the credential may use %s", h.spn, have, h.cred.options.Protocol),
		Mend: "switch on Windows authentication at the API, or give the credential a password and protocol negotiate",
	}
}

// openNTLM sends type 1: raw under the scheme NTLM, else as the only mechanism of a NegTokenInit.
func (h *handshake) openNTLM(scheme string) (Token, error) {
	if err := h.startNTLM(scheme); err != nil {
		return h.fail(err)
	}
	token := h.ntlm.Negotiate()
	if scheme == "ntlm" {
		h.raw = true
		return h.send("NTLM", token, true)
	}
	h.mechs = []spnego.Mech{spnego.NTLM}
	wrapped, err := spnego.Init{Mechs: h.mechs, Token: token}.Marshal()
	if err != nil {
		return h.fail(&Error{Kind: NotReady, Err: err})
	}
	return h.send("Negotiate", wrapped, true)
}

func (h *handshake) startNTLM(scheme string) error {
	if err := h.bind(); err != nil {
		return err
	}
	c, err := h.cred.ntlmClient(h.spn, h.binding)
	if err != nil {
		return err
	}
	h.ntlm, h.scheme = c, scheme
	return nil
}

func (h *handshake) send(scheme string, token []byte, opening bool) (Token, error) {
	h.legs++
	h.state = sentType3
	if opening {
		h.state = sentType1
	}
	return Token{Value: header(scheme, token), Opening: opening}, nil
}

// afterKerberos handles a 401 to a complete Kerberos token. What the server says decides: it may have chosen NTLM out of
// the list, or explain itself by a KRB-ERROR. A ticket that was kept for a while is replaced once, since the service's
// key may have changed. There is no way from a refused ticket to NTLM.
func (h *handshake) afterKerberos(ctx context.Context, list []challenge) (Token, error) {
	c, ok := find(list, "negotiate")
	if !ok {
		return h.fail(h.rejected("Kerberos"))
	}
	if c.bad {
		return h.fail(badToken(errors.New("it is not Base64")))
	}
	if spnego.IsResp(c.token) {
		r, err := spnego.ParseResp(c.token)
		if err != nil {
			return h.fail(badToken(err))
		}
		if r.Mech == spnego.NTLM && (r.State == spnego.Incomplete || r.State == spnego.RequestMIC) && h.cred.ntlmAllowed() {
			return h.switchToNTLM()
		}
		c.token = r.Token
	}
	if !h.again && h.cred.krb.Forget(h.ticket) {
		h.again = true
		return h.kerberos(ctx)
	}
	if len(c.token) > 0 {
		if k, ok := errors.AsType[*kerberos.KDCError](h.context.Verify(c.token)); ok {
			return h.fail(explain(k, h.cred.id, h.spn))
		}
	}
	return h.fail(h.rejected("Kerberos"))
}

// switchToNTLM goes on with type 1 in a NegTokenResp, after the server chose NTLM from our list.
func (h *handshake) switchToNTLM() (Token, error) {
	if err := h.startNTLM("negotiate"); err != nil {
		return h.fail(err)
	}
	h.fellBack = true
	token, err := spnego.Resp{State: spnego.Incomplete, Token: h.ntlm.Negotiate()}.Marshal()
	if err != nil {
		return h.fail(&Error{Kind: NotReady, Err: err})
	}
	return h.send("Negotiate", token, true)
}

// afterType1 answers NTLM's challenge.
func (h *handshake) afterType1(ctx context.Context, list []challenge) (Token, error) {
	c, ok := find(list, h.scheme)
	switch {
	case ok && c.token == nil && !c.bad && h.scheme == "negotiate" && !h.raw && !h.fellBack:
		// Some servers speak NTLM under Negotiate without SPNEGO around it.
		h.raw = true
		return h.send("Negotiate", h.ntlm.Negotiate(), true)
	case c.token == nil && !c.bad && h.scheme == "negotiate" && !h.fellBack && offers(list, "ntlm"):
		// Squid's Negotiate is Kerberos alone unless it is wrapped, and it offers NTLM beside it.
		return h.openNTLM("ntlm")
	case !ok || (c.token == nil && !c.bad):
		return h.fail(&Error{
			Kind: Rejected, Err: fmt.Errorf("%s forgot the NTLM handshake", h.spn),
			Mend: "the server does not accept NTLM, or something before it does not keep the connection for us " +
				"(a load balancer without affinity)",
		})
	case c.bad:
		return h.fail(badToken(errors.New("it is not Base64")))
	}
	wantMIC := h.fellBack
	msg := c.token
	if spnego.IsResp(msg) {
		r, err := spnego.ParseResp(msg)
		if err != nil {
			return h.fail(badToken(err))
		}
		if r.State == spnego.Rejected || (r.Mech != "" && r.Mech != spnego.NTLM) {
			return h.fail(h.rejected("NTLM"))
		}
		wantMIC = wantMIC || r.State == spnego.RequestMIC
		msg = r.Token
	} else if h.scheme == "negotiate" {
		h.raw = true // a server that reads SPNEGO but answers without it gets no SPNEGO either
	}
	if err := h.cred.refused.await(ctx, h.cred.id, h.spn, h.cred.options.Clock); err != nil {
		return h.fail(err)
	}
	answer, err := h.ntlm.Authenticate(msg)
	if err != nil {
		return h.fail(badToken(err))
	}
	return h.sendType3(answer, wantMIC)
}

func offers(list []challenge, scheme string) bool {
	_, ok := find(list, scheme)
	return ok
}

func (h *handshake) sendType3(answer []byte, wantMIC bool) (Token, error) {
	if h.raw {
		scheme := "Negotiate"
		if h.scheme == "ntlm" {
			scheme = "NTLM"
		}
		return h.send(scheme, answer, false)
	}
	r := spnego.Resp{State: spnego.Incomplete, Token: answer}
	if wantMIC {
		list, err := spnego.MechList(h.mechs)
		if err != nil {
			return h.fail(&Error{Kind: NotReady, Err: err})
		}
		r.MIC = h.ntlm.Sign(list)
		h.micSent = r.MIC != nil
	}
	token, err := r.Marshal()
	if err != nil {
		return h.fail(&Error{Kind: NotReady, Err: err})
	}
	return h.send("Negotiate", token, false)
}

// rejected names what makes a server answer 401 to a complete sign-on.
func (h *handshake) rejected(how string) error {
	mend := "see whether " + h.cred.id + " may use the API"
	if how == "Kerberos" {
		mend += "; whether " + h.spn + " belongs to the account that the service runs as (setspn -Q " + h.spn + ")"
	} else {
		mend += "; whether the password is right and NTLM is allowed in the domain"
	}
	switch {
	case h.binding != nil:
		mend += "; whether something between here and the API ends TLS, so that the channel binding (Extended Protection) " +
			"is of another certificate"
	case h.target.TLS == nil:
		mend += "; whether the API demands channel binding (Extended Protection), which needs https"
	default:
		mend += "; whether the API demands channel binding (Extended Protection), which was not sent"
	}
	err := fmt.Errorf("%s answered 401 to a complete %s sign-on of %s", h.spn, how, h.cred.id)
	if h.without != nil {
		err = fmt.Errorf("%w, after Kerberos could not be had: %w", err, h.without)
	}
	return &Error{Kind: Rejected, Err: err, Mend: mend}
}

func badToken(err error) error {
	return &Error{Kind: BadToken, Err: fmt.Errorf("the server's token cannot be read: %w", err)}
}

// Finish implements Handshake.
func (h *handshake) Finish(values []string) error {
	if h.failed != nil {
		return h.failed
	}
	switch h.state {
	case sentKerberos:
		h.failed = h.finishKerberos(values)
	case sentType3:
		h.cred.refused.result(h.spn, true, h.cred.options.Clock())
		h.failed = h.finishNTLM(values)
	case idle:
		if h.cred.options.Mutual {
			h.failed = h.notMutual(errors.New("it did not ask for authentication"))
		}
	case sentType1: // the server answers without wanting to know who asks
	}
	return h.failed
}

func (h *handshake) notMutual(err error) error {
	return &Error{
		Kind: NotMutual, Err: fmt.Errorf("%s did not prove itself: %w", h.spn, err),
		Mend: "this may be another server than meant; if the server cannot prove itself, set mutual to false",
	}
}

func (h *handshake) finishKerberos(values []string) error {
	c, ok := find(parseChallenges(values), "negotiate")
	if c.bad {
		return badToken(errors.New("it is not Base64"))
	}
	token := c.token
	if spnego.IsResp(token) {
		r, err := spnego.ParseResp(token)
		if err != nil {
			return badToken(err)
		}
		if r.State == spnego.Rejected {
			return h.notMutual(errors.New("its final token says that the sign-on was rejected"))
		}
		token = r.Token
	}
	if !ok || len(token) == 0 {
		if h.cred.options.Mutual {
			return h.notMutual(errors.New("there is no final token"))
		}
		return nil
	}
	if err := h.context.Verify(token); err != nil {
		return h.notMutual(err)
	}
	return nil
}

// finishNTLM checks the signature over the mechanism list where the server sends one: it shows that nobody took Kerberos
// out of the list. NTLM itself proves nothing about the server.
func (h *handshake) finishNTLM(values []string) error {
	c, ok := find(parseChallenges(values), h.scheme)
	if !ok || h.raw || !spnego.IsResp(c.token) {
		return nil
	}
	r, err := spnego.ParseResp(c.token)
	if err != nil {
		return badToken(err)
	}
	if len(r.MIC) == 0 {
		if h.micSent && r.State != spnego.Accepted {
			return h.notMutual(errors.New("the list of mechanisms is not signed"))
		}
		return nil
	}
	list, err := spnego.MechList(h.mechs)
	if err != nil {
		return err
	}
	if !h.ntlm.Verify(list, bytes.Clone(r.MIC)) {
		return h.notMutual(errors.New("the signature over the list of mechanisms is wrong"))
	}
	return nil
}
