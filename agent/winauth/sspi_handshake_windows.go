package winauth

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"syscall"

	"github.com/alexbrainman/sspi"
)

const (
	// maxSSPILegs bounds the tokens of one handshake.
	maxSSPILegs = 4
	// maxOutput is the largest token that Windows can be configured to make (MaxTokenSize).
	maxOutput = 64 << 10
)

// wantedFlags: mutual authentication, never delegation.
const wantedFlags = sspi.ISC_REQ_MUTUAL_AUTH | sspi.ISC_REQ_CONNECTION

// sspiHandshake is one sign-on on Windows.
type sspiHandshake struct {
	cred   *sspiCredential
	target Target
	spn    string

	handle   *handle // kept alive as long as the context
	context  *sspi.Context
	spn16    *uint16
	first    []byte // the first token, made ahead but not sent
	legs     int
	scheme   string // "negotiate" or "ntlm"
	isNTLM   bool
	complete bool // the token sent last can be enough for the server
	done     bool // Windows is satisfied
	failed   error
}

// String, GoString and LogValue keep keys and tokens out of logs: fmt would walk into the fields.
func (h *sspiHandshake) String() string { return "sign-on of " + h.cred.id + " to " + h.spn }

// GoString is for %#v.
func (h *sspiHandshake) GoString() string { return h.String() }

// LogValue is for slog.
func (h *sspiHandshake) LogValue() slog.Value { return slog.StringValue(h.String()) }

// Protocol implements Handshake.
func (h *sspiHandshake) Protocol() string {
	switch {
	case h.legs == 0:
		return ""
	case h.isNTLM && h.scheme == "ntlm":
		return "ntlm"
	case h.isNTLM:
		return "negotiate/ntlm"
	}
	return "kerberos"
}

func (h *sspiHandshake) fail(err error) (Token, error) {
	h.failed = err
	return Token{}, err
}

// Ahead implements Handshake.
func (h *sspiHandshake) Ahead(context.Context) (Token, error) {
	if h.failed != nil || h.legs > 0 || h.cred.options.Protocol == NTLM {
		return Token{}, h.failed
	}
	if err := h.start("negotiate"); err != nil {
		return h.fail(err)
	}
	if h.isNTLM {
		return Token{}, nil // kept for the server's 401
	}
	return h.send(h.take())
}

func (h *sspiHandshake) take() []byte {
	t := h.first
	h.first = nil
	return t
}

// Answer implements Handshake.
func (h *sspiHandshake) Answer(_ context.Context, values []string) (Token, error) {
	if h.failed != nil {
		return Token{}, h.failed
	}
	if h.legs >= maxSSPILegs {
		return h.fail(&Error{Kind: Rejected, Err: fmt.Errorf("%s keeps asking after %d tokens", h.spn, h.legs)})
	}
	list := parseChallenges(values)
	if h.legs == 0 {
		return h.begin(list)
	}
	c, ok := find(list, h.scheme)
	switch {
	case c.bad:
		return h.fail(&Error{Kind: BadToken, Err: errors.New("the server's token is not Base64")})
	case !ok || len(c.token) == 0 || h.done:
		return h.fail(h.rejected())
	}
	out, err := h.update(c.token)
	if err != nil {
		return h.fail(h.cred.explain(err, h.spn))
	}
	if len(out) == 0 {
		return h.fail(h.rejected())
	}
	return h.send(out)
}

// begin answers the first 401.
func (h *sspiHandshake) begin(list []challenge) (Token, error) {
	scheme := ""
	_, negotiate := find(list, "negotiate")
	_, ntlmToo := find(list, "ntlm")
	switch p := h.cred.options.Protocol; {
	case p == NTLM && ntlmToo:
		scheme = "ntlm"
	case negotiate:
		scheme = "negotiate"
	case p == Negotiate && ntlmToo && !h.cred.options.Mutual:
		scheme = "ntlm"
	default:
		return h.fail(&Error{
			Kind: NotOffered,
			Err:  fmt.Errorf("%s offers no scheme that the credential may use (%s)", h.spn, p),
			Mend: "switch on Windows authentication at the API",
		})
	}
	if h.first == nil || scheme != h.scheme {
		if err := h.start(scheme); err != nil {
			return h.fail(err)
		}
	}
	return h.send(h.take())
}

// start makes the context and its first token.
func (h *sspiHandshake) start(scheme string) error {
	if h.cred.password != nil {
		if err := h.cred.refused.check(h.cred.id, h.spn, h.cred.options.Clock()); err != nil {
			return err
		}
	}
	pkg := h.cred.pkg()
	if scheme == "ntlm" {
		pkg = sspi.NTLMSP_NAME
	}
	handle, err := h.cred.acquire(pkg)
	if err != nil {
		return err
	}
	if h.spn16, err = syscall.UTF16PtrFromString(h.spn); err != nil {
		return &Error{Kind: UnknownSPN, Err: errors.New("the service principal name has a zero in it")}
	}
	h.handle, h.scheme = handle, scheme
	h.context = sspi.NewClientContext(handle.cred, wantedFlags)
	runtime.AddCleanup(h, func(c *sspi.Context) { _ = c.Release() }, h.context)
	out, err := h.update(nil)
	if err != nil {
		return h.cred.explain(err, h.spn)
	}
	h.isNTLM = bytes.Contains(out, []byte("NTLMSSP\x00"))
	if h.isNTLM && (h.cred.options.Protocol == Kerberos || h.cred.options.Mutual) {
		return &Error{
			Kind: KDCUnreachable, Err: fmt.Errorf("there is only NTLM for %s on this machine, which is not allowed here", h.spn),
			Mend: "check that the SPN exists (setspn -Q " + h.spn + ") and that a domain controller answers",
		}
	}
	h.first = out
	return nil
}

// update is one call of InitializeSecurityContext. The first has no input, or only the channel binding: an empty token
// buffer is not the same as none to every implementation.
func (h *sspiHandshake) update(in []byte) ([]byte, error) {
	binding, err := bindingFor(h.cred.options.ChannelBinding, h.target.TLS)
	if err != nil {
		return nil, err
	}
	var bufs []sspi.SecBuffer
	if in != nil {
		bufs = append(bufs, sspi.SecBuffer{})
		bufs[0].Set(sspi.SECBUFFER_TOKEN, in)
	}
	if binding != nil {
		bufs = append(bufs, sspi.SecBuffer{})
		bufs[len(bufs)-1].Set(sspi.SECBUFFER_CHANNEL_BINDINGS, channelBindings(binding))
	}
	var input *sspi.SecBufferDesc
	if len(bufs) > 0 {
		input = sspi.NewSecBufferDesc(bufs)
	}
	out := make([]byte, maxOutput)
	var outBuf [1]sspi.SecBuffer
	outBuf[0].Set(sspi.SECBUFFER_TOKEN, out)
	output := sspi.NewSecBufferDesc(outBuf[:])
	var ret syscall.Errno
	if err := h.cred.person.run(func() error {
		ret = h.context.Update(h.spn16, output, input)
		return nil
	}); err != nil {
		return nil, err
	}
	if ret == sspi.SEC_I_COMPLETE_NEEDED || ret == sspi.SEC_I_COMPLETE_AND_CONTINUE {
		done := ret == sspi.SEC_I_COMPLETE_NEEDED
		if ret = sspi.CompleteAuthToken(h.context.Handle, output); ret == sspi.SEC_E_OK && !done {
			ret = sspi.SEC_I_CONTINUE_NEEDED
		}
	}
	runtime.KeepAlive(h)
	switch ret {
	case sspi.SEC_E_OK:
		h.done = true
	case sspi.SEC_I_CONTINUE_NEEDED:
	default:
		return nil, ret
	}
	return out[:min(int(outBuf[0].BufferSize), len(out))], nil
}

// channelBindings is SEC_CHANNEL_BINDINGS with the data behind it.
func channelBindings(data []byte) []byte {
	const fixed = 32
	b := make([]byte, fixed, fixed+len(data))
	binary.LittleEndian.PutUint32(b[24:], uint32(len(data)))
	binary.LittleEndian.PutUint32(b[28:], fixed)
	return append(b, data...)
}

func (h *sspiHandshake) send(token []byte) (Token, error) {
	h.legs++
	scheme := "Negotiate"
	if h.scheme == "ntlm" {
		scheme = "NTLM"
	}
	h.isNTLM = bytes.Contains(token, []byte("NTLMSSP\x00"))
	opening := bytes.Contains(token, []byte("NTLMSSP\x00\x01\x00\x00\x00"))
	h.complete = !opening
	return Token{Value: header(scheme, token), Opening: opening}, nil
}

func (h *sspiHandshake) rejected() error {
	if h.cred.password != nil && h.complete {
		h.cred.refused.result(h.spn, false, h.cred.options.Clock())
	}
	return &Error{
		Kind: Rejected, Err: fmt.Errorf("%s answered 401 to a complete sign-on of %s (%s)", h.spn, h.cred.id, h.Protocol()),
		Mend: "see whether the account may use the API; whether the SPN belongs to the account that the service runs as " +
			"(setspn -Q " + h.spn + "); whether channel binding (Extended Protection) is demanded or broken on the way",
	}
}

// Finish implements Handshake.
func (h *sspiHandshake) Finish(values []string) error {
	if h.failed != nil || h.legs == 0 {
		return h.failed
	}
	if h.complete {
		h.cred.refused.result(h.spn, true, h.cred.options.Clock())
	}
	c, ok := find(parseChallenges(values), h.scheme)
	switch {
	case h.done || (h.isNTLM && len(c.token) == 0):
		return nil
	case !ok || len(c.token) == 0:
		if h.cred.options.Mutual {
			h.failed = h.notMutual(errors.New("there is no final token"))
		}
		return h.failed
	}
	if _, err := h.update(c.token); err != nil {
		h.failed = h.notMutual(h.cred.explain(err, h.spn))
	}
	return h.failed
}

func (h *sspiHandshake) notMutual(err error) error {
	return &Error{
		Kind: NotMutual, Err: fmt.Errorf("%s did not prove itself: %w", h.spn, err),
		Mend: "this may be another server than meant; if the server cannot prove itself, set mutual to false",
	}
}
