package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"sallyport/tunnel"
)

// A Stream is the accepter's half of a *tunnel.Stream.
type Stream interface {
	Request() *tunnel.Request
	Context() context.Context
	SendResponse(r *tunnel.Response, end bool) error
	Answer(r *tunnel.Response, body []byte) error
	Read(p []byte) (int, error)
	Ended() bool
	Buffered() int
	Trailer() http.Header
	Write(p []byte) (int, error)
	Send(b *tunnel.Buffer, n int) error
	CloseWrite(trailer http.Header) error
	AllowBody()
	Reset(code tunnel.ResetCode, reason string)
	SetReadTimeout(d time.Duration)
	SetWriteTimeout(d time.Duration)
}

// A Result is one exchange, for the agent's record.
type Result struct {
	// Status is what the caller was answered; 0 if the exchange was given up before.
	Status int
	// BytesIn are body bytes taken from the caller, BytesOut those given to it.
	BytesIn, BytesOut int64
	// Times is where the time went until the head; Waited is how long the exchange waited for its turn, because as many as may
	// run at once were running. 0: it did not.
	Times  tunnel.Times
	Waited time.Duration
	// Protocol is how Windows authentication was done: "kerberos", "ntlm", "negotiate/ntlm"; "" for none, and for a
	// connection that was signed on before.
	Protocol string
	// SignOn is what came of a sign-on with Windows authentication that was made for this exchange, Untold if there was none;
	// SignOnBy is its protocol, "" if it failed before there was one.
	SignOn   Outcome
	SignOnBy string
	// Principal is the caller whose own password signed on, as winauth names the account; "" before that is proved.
	Principal string
	// Problem is the code of the problem that ended the exchange, "" if the upstream's answer went out whole.
	Problem string
	// Err is why, for the log: it can name internal hosts and accounts.
	Err error
}

// relayMargin is how much earlier than the relay's the agent's timers fire, so that the error names the right place.
const relayMargin = 5 * time.Second

// A service is one stream being served.
type service struct {
	t        *Transport
	st       Stream
	in       *tunnel.Request
	x        *call
	body     *streamBody
	out      int64
	answered bool   // the final head has been sent
	cause    *Error // why this side has given up the stream already
	result   Result
}

// Serve makes the exchange of one stream: it asks the upstream and answers the stream, or resets it. It returns when
// nothing of the exchange is left. The stream's end closes the upstream connection at once.
func (t *Transport) Serve(st Stream) Result { return t.ServeWithin(st, -1) }

// ServeWithin is Serve with a bound of its own for the request's body, in bytes; negative: the API's alone.
func (t *Transport) ServeWithin(st Stream, bound int64) Result {
	limit := t.cfg.BodyLimit
	if bound >= 0 && (limit < 0 || bound < limit) {
		limit = bound
	}
	ctx := st.Context()
	s := &service{t: t, st: st, in: st.Request()}
	s.body = &streamBody{st: st, limit: limit, silence: t.timeout(s.in), expect: s.in.Expect}
	err := s.serve(ctx)
	s.body.close()
	if s.x != nil {
		s.x.uploads.Wait()
		s.result.Times, s.result.Protocol, s.result.Principal = s.x.times, s.x.protocol, s.x.principal()
		s.result.Waited = s.x.waited
	}
	s.result.BytesIn, s.result.BytesOut = s.body.taken.Load(), s.out
	s.result.SignOn, s.result.SignOnBy = s.x.signedOn(err)
	switch {
	case s.cause != nil:
		s.fail(s.cause)
	case err != nil:
		s.fail(asError(ctx, err, false))
	}
	return s.result
}

// timeout bounds the wait for the answer's head and each silence.
func (t *Transport) timeout(in *tunnel.Request) time.Duration {
	d := t.cfg.Timeout
	if in.Timeout > 0 {
		d = min(d, max(in.Timeout-relayMargin, in.Timeout/2))
	}
	return d
}

// serve asks and answers. Its error has not been told to the stream yet.
func (s *service) serve(ctx context.Context) error {
	if limit := s.body.limit; limit >= 0 && s.in.ContentLength > limit {
		return &Error{Kind: BodyTooLarge, NotRun: true, Err: fmt.Errorf("a body of %d bytes; the limit is %d", s.in.ContentLength, limit)}
	}
	req, err := s.request(ctx)
	if err != nil {
		return err
	}
	s.x = s.t.newCall(ctx, req, s.body.silence)
	s.x.informational = s.inform
	resp, err := s.x.run()
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return s.upgraded(ctx, resp)
	}
	return s.answer(resp)
}

// request makes the upstream request from the stream's head.
func (s *service) request(ctx context.Context) (*http.Request, error) {
	in := s.in
	if !validTarget(in.Target) {
		return nil, &Error{Kind: BadRequest, NotRun: true, Err: errors.New("the request target is not in origin form")}
	}
	req := new(http.Request).WithContext(ctx)
	req.Method, req.Header = in.Method, in.Header
	// Opaque goes out byte for byte; a Path would be encoded anew.
	req.URL = &url.URL{Scheme: s.t.cfg.URL.Scheme, Host: s.t.cfg.URL.Host, Opaque: s.t.base + in.Target}
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	if in.Upgrade != "" || in.Expect || len(s.t.paths) > 0 {
		req.Header = req.Header.Clone()
	}
	if len(s.t.paths) > 0 {
		req.Header.Set("Accept-Encoding", "identity") // so that links in bodies can be read
	}
	if in.Upgrade != "" {
		req.Header.Set("Upgrade", in.Upgrade)
		req.Header.Set("Connection", "Upgrade")
	}
	if in.ContentLength == 0 || in.Upgrade != "" {
		return req, nil
	}
	if in.Expect {
		req.Header.Set("Expect", "100-continue")
	}
	req.Body, req.ContentLength = s.body, in.ContentLength
	if in.ContentLength < 0 {
		req.Trailer = announcedTrailer(in.Header)
		s.body.trailer = req.Trailer
	}
	return req, nil
}

// inform passes an informational answer on. 100 is this hop's own: it has opened the body's window already.
func (s *service) inform(code int, h http.Header) error {
	if code == http.StatusContinue {
		return nil
	}
	dropHop(h)
	s.links(h)
	return s.st.SendResponse(&tunnel.Response{Status: code, Header: h, ContentLength: -1}, false)
}

// links makes the links of a head public, and logs what could not be.
func (s *service) links(h http.Header) {
	removed, hosts := s.t.links.rewrite(h, s.in.Base)
	if len(removed) == 0 {
		return
	}
	attrs := []any{
		slog.String("request", s.in.ID), slog.String("api", s.t.cfg.Name), slog.String("fields", strings.Join(removed, ", ")),
	}
	if len(hosts) > 0 {
		attrs = append(attrs, slog.String("hosts", strings.Join(hosts, ", ")),
			slog.String("hint", "if callers are to follow links to a host, add the host to link_hosts of this API"))
	}
	s.t.cfg.Log.Warn("removed links that lead outside of the API", attrs...)
}

// head is an upstream's head as the stream takes it.
func (s *service) head(resp *http.Response) *tunnel.Response {
	h := resp.Header
	dropHop(h)
	s.links(h)
	length := resp.ContentLength
	if resp.StatusCode == http.StatusNotModified {
		length = declaredLength(h)
	}
	delete(h, "Content-Length")
	delete(h, "Trailer")
	for name := range resp.Trailer {
		if !forbiddenTrailer(name) {
			h.Add("Trailer", name)
		}
	}
	s.result.Status = resp.StatusCode
	return &tunnel.Response{Status: resp.StatusCode, Header: h, ContentLength: length, Times: s.x.times}
}

// declaredLength is the Content-Length field of an answer that has no body.
func declaredLength(h http.Header) int64 {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// atOnce is the largest answer that leaves as one piece.
const atOnce = 16 << 10

// answer streams the upstream's answer to the caller.
func (s *service) answer(resp *http.Response) error {
	body, _ := resp.Body.(*answerBody)
	out := s.head(resp)
	rewrite := s.t.bodyLinks(resp)
	if rewrite && resp.StatusCode != http.StatusNotModified {
		out.ContentLength = -1
	}
	if body == nil {
		return s.sent(s.st.SendResponse(out, true))
	}
	if isEventStream(resp.Header) {
		body.silence = s.t.cfg.IdleTimeout
	}
	if n := resp.ContentLength; n > 0 && n <= atOnce && !rewrite && body.buffered() >= n {
		whole := make([]byte, n)
		if _, err := io.ReadFull(body, whole); err != nil {
			return err
		}
		body.finish()
		s.out = n
		return s.sent(s.st.Answer(out, whole))
	}
	if err := s.sent(s.st.SendResponse(out, false)); err != nil {
		return err
	}
	var from io.Reader = body
	if rewrite {
		from = s.t.withLinks(body, resp.ContentLength, s.in.Base)
	}
	if err := s.copyOut(from); err != nil {
		return err
	}
	return s.st.CloseWrite(allowedTrailer(resp.Trailer))
}

// sent notes that a final head is out. A stream that does not take it has ended, or the head is larger than the tunnel
// carries.
func (s *service) sent(err error) error {
	if err == nil {
		s.answered = true
		return nil
	}
	return &Error{Kind: Broken, Err: fmt.Errorf("pass on the answer: %w", err)}
}

// copyOut passes each piece of the body on as it comes.
func (s *service) copyOut(body io.Reader) error {
	s.st.SetWriteTimeout(s.body.silence)
	var buf tunnel.Buffer
	defer buf.Free()
	for {
		n, err := body.Read(buf.Room())
		if n > 0 {
			if werr := s.st.Send(&buf, n); werr != nil {
				return &Error{Kind: CallerGone, Err: fmt.Errorf("send the answer: %w", werr)}
			}
			s.out += int64(n)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fail tells the stream and the log why there is no whole answer.
func (s *service) fail(e *Error) {
	r := refusalOf(e.Kind)
	s.result.Err, s.result.Problem = e, r.code
	level := slog.LevelWarn
	if e.Kind == CallerGone {
		level = slog.LevelInfo
	}
	s.t.cfg.Log.Log(context.Background(), level, "exchange failed", slog.String("request", s.in.ID),
		slog.String("api", s.t.cfg.Name), slog.String("problem", r.code), slog.Bool("answered", s.answered), slog.Any("err", e))
	if s.answered {
		s.st.Reset(r.reset, r.title)
		return
	}
	answer := e.response()
	if s.x != nil {
		answer.Times = s.x.times
	}
	if err := s.st.SendResponse(answer, true); err != nil {
		s.st.Reset(r.reset, r.title)
		return
	}
	s.result.Status = answer.Status
}

// A streamBody is the caller's body. It counts, keeps the limit, and lets the body begin when it is first read.
type streamBody struct {
	st      Stream
	limit   int64
	silence time.Duration
	expect  bool
	trailer http.Header // announced, to be filled
	taken   atomic.Int64
	closed  atomic.Bool
}

// atHand is the whole body, if it is small and has arrived; nil if not.
func (b *streamBody) atHand(length int64) ([]byte, error) {
	if b.expect || length <= 0 || length > atOnce || !b.st.Ended() || int64(b.st.Buffered()) != length {
		return nil, nil
	}
	whole := make([]byte, length)
	if _, err := io.ReadFull(b, whole); err != nil {
		return nil, bodyError(err)
	}
	return whole, nil
}

// bodyPoll is how soon a read notices that nobody needs the body any more. A read of a stream cannot be interrupted
// without giving up the stream, and the answer is still to leave on it.
const bodyPoll = time.Second

func (b *streamBody) Read(p []byte) (int, error) {
	if b.expect {
		b.expect = false
		b.st.AllowBody()
	}
	n, err := b.read(p)
	if total := b.taken.Add(int64(n)); b.limit >= 0 && total > b.limit {
		return 0, &Error{Kind: BodyTooLarge, Err: fmt.Errorf("the body is larger than %d bytes", b.limit)}
	}
	if err == io.EOF {
		for k, vv := range b.st.Trailer() {
			if _, announced := b.trailer[http.CanonicalHeaderKey(k)]; announced {
				b.trailer[http.CanonicalHeaderKey(k)] = vv
			}
		}
	}
	return n, err
}

// read waits for the caller's next bytes, at most for the silence that is allowed.
func (b *streamBody) read(p []byte) (int, error) {
	b.st.SetReadTimeout(min(bodyPoll, b.silence))
	for began := time.Now(); ; {
		if b.closed.Load() {
			return 0, errors.New("the exchange has ended")
		}
		n, err := b.st.Read(p)
		if n > 0 || err == nil || !errors.Is(err, tunnel.ErrTimeout) || time.Since(began) >= b.silence {
			return n, err
		}
	}
}

// Close is the transport's; the stream outlives it.
func (b *streamBody) Close() error { b.close(); return nil }

func (b *streamBody) close() { b.closed.Store(true) }
