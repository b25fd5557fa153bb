package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"sallyport/tunnel"
)

// A Transport is one API's upstream. It is an http.RoundTripper that is safe for concurrent use.
type Transport struct {
	cfg     Config
	address string // host:port
	host    string // for the Host field
	base    string // the URL's path, escaped, without a trailing slash
	tls     *tls.Config
	pool    *pool
	learned learned
	links   *links
	paths   []linkPath // of links in bodies
}

// New makes the Transport of one API. It opens no connection yet.
func New(cfg Config) (*Transport, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	paths, err := parseLinkPaths(cfg.Links)
	if err != nil {
		return nil, fmt.Errorf("API %s: %w", cfg.Name, err)
	}
	u := cfg.URL
	return &Transport{
		cfg:     cfg,
		address: dialAddress(u.Scheme, u.Hostname(), u.Port()),
		host:    u.Host,
		base:    strings.TrimRight(u.EscapedPath(), "/"),
		tls:     cfg.TLS.config(u.Hostname()),
		pool:    newPool(cfg.Concurrent, cfg.QueueWait),
		links:   newLinks(u, cfg.LinkHosts),
		paths:   paths,
	}, nil
}

// Close ends the idle connections and keeps none from now on. Exchanges that run or still come in end by themselves: on
// a change of the configuration some have found this Transport just before.
func (t *Transport) Close() { t.pool.close() }

// RoundTrip makes one exchange with the API. The request's target goes out byte for byte: req.URL.Opaque if it is set,
// or else the escaped path and query. The Host field is always the API's. Errors are *Error.
//
// As with http.Transport the caller closes the answer's body, a 101 has a body that is an io.ReadWriteCloser, and
// httptrace's Got1xxResponse and Got100Continue see informational answers. Redirects are not followed.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x := t.newCall(req.Context(), req, t.cfg.Timeout)
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil {
		x.informational = func(code int, h http.Header) error {
			if code == http.StatusContinue && trace.Got100Continue != nil {
				trace.Got100Continue()
			}
			if trace.Got1xxResponse != nil {
				return trace.Got1xxResponse(code, textproto.MIMEHeader(h))
			}
			return nil
		}
	}
	return x.run()
}

// A call is one request, over as many legs and connections as it takes.
type call struct {
	t             *Transport
	ctx           context.Context // of this exchange alone; a call is never longer than it
	req           *http.Request
	timeout       time.Duration // for the head, and for each silence
	informational func(int, http.Header) error

	body    *replay // nil: none
	upgrade string
	sign    SignOn    // WindowsAuth
	secret  [2]string // a field that carries the agent's credential, and its value
	key     poolKey

	stop    func() bool // ends the watch over the connection in use
	again   int         // fresh connections asked for by a sign-on
	uploads sync.WaitGroup
	ended   sync.Once
	long    bool // it has a place among those that may last

	began    time.Time
	waited   time.Duration // for a place; 0: there was one
	times    tunnel.Times
	protocol string // how Windows authentication was done
	proved   bool   // a sign-on was accepted in this exchange
	vouched  bool   // the connection had been signed on before
	tried    string // the protocol of the sign-on that failed
}

func (t *Transport) newCall(ctx context.Context, req *http.Request, timeout time.Duration) *call {
	return &call{t: t, ctx: ctx, req: req, timeout: timeout, informational: nothing, began: time.Now()}
}

// run makes the call. If it returns no error, the answer's body ends the call.
func (x *call) run() (*http.Response, error) {
	if err := x.prepare(); err != nil {
		x.tell(Untold)
		x.closeBody()
		return nil, asError(x.ctx, err, true)
	}
	var err error
	if x.waited, err = x.t.pool.enter(x.ctx); err != nil {
		x.tell(Untold)
		x.closeBody()
		return nil, err
	}
	a, err := x.overConnections()
	err = x.judged(err)
	x.account()
	if err != nil {
		x.unwatch()
		x.done()
		return nil, asError(x.ctx, err, false)
	}
	return x.deliver(a), nil
}

// account says where the time went: what was neither signing on nor waiting for the upstream was our own.
func (x *call) account() {
	x.times.Agent = max(0, time.Since(x.began)-x.times.Auth-x.times.Upstream)
}

// done ends the call: its place is free and nobody reads the request's body any more.
func (x *call) done() {
	x.ended.Do(func() {
		x.closeBody()
		x.t.pool.leave(x.long)
	})
}

func (x *call) closeBody() {
	if x.req.Body != nil {
		_ = x.req.Body.Close()
	}
}

// deliver gives the final answer a body that ends the call.
func (x *call) deliver(a *answer) *http.Response {
	resp := a.resp
	a.c.keeps = keepsIdle(resp.Header)
	stripWindows(resp.Header)
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		x.long = x.t.pool.lengthen()
		a.c.readUntil(time.Time{})
		resp.Body = &upgradedBody{x: x, a: a}
	case resp.Body == http.NoBody:
		x.release(a, true)
		x.done()
	default:
		x.long = isEventStream(resp.Header) && x.t.pool.lengthen()
		resp.Body = &answerBody{x: x, a: a, silence: x.timeout}
	}
	return resp
}

// prepare checks the request and finds out whose connection it needs.
func (x *call) prepare() error {
	req := x.req
	if err := x.t.checkRequest(req); err != nil {
		return &Error{Kind: BadRequest, NotRun: true, Err: err}
	}
	auth := x.t.cfg.Auth
	x.upgrade = upgradeOf(req.Header)
	x.key = poolKey{kind: auth.Kind, generation: x.t.cfg.Generation}
	if err := x.authorise(auth); err != nil {
		return err
	}
	if length, ok := hasBody(req); ok {
		x.body = newReplay(req.Body, length, auth.Kind == WindowsAuth || idempotent(req.Method))
		if b, ok := req.Body.(*streamBody); ok {
			return x.body.fill(b)
		}
	}
	return nil
}

// authorise finds the credential of this request.
func (x *call) authorise(auth Auth) error {
	if auth.Kind == WindowsAuth {
		sign, err := auth.Windows(x.req)
		if err == nil && sign.Credential == nil {
			err = errors.New("no credential for this request")
		}
		if known, ok := errors.AsType[*Error](err); ok {
			return known
		}
		if err != nil {
			return &Error{Kind: NoIdentity, NotRun: true, Err: err}
		}
		x.sign = sign
		x.key.mode, x.key.identity, x.key.proof = sign.Mode, sign.Credential.Identity(), sign.Proof
		return nil
	}
	if auth.Secret == nil {
		return nil
	}
	secret, err := auth.Secret()
	if err != nil {
		return &Error{Kind: AuthFailed, NotRun: true, Here: true, Err: fmt.Errorf("read the credential: %w", err)}
	}
	x.secret = auth.field(secret)
	return nil
}

// checkRequest refuses what cannot be written, or does not belong to this API.
func (t *Transport) checkRequest(req *http.Request) error {
	switch {
	case req.URL == nil:
		return errors.New("no URL")
	case req.URL.Host != "" && !strings.EqualFold(req.URL.Host, t.cfg.URL.Host):
		return fmt.Errorf("the request is for %s, this API is at %s", req.URL.Host, t.cfg.URL.Host)
	case req.Method == http.MethodConnect:
		return errors.New("CONNECT is not an API's method")
	case !validMethod(req.Method):
		return fmt.Errorf("invalid method %q", req.Method)
	case !validTarget(target(req.URL)):
		return errors.New("the request target has a byte that cannot be written, or does not begin with a slash")
	}
	return checkFields(req.Header)
}

// target is what stands in the request line.
func target(u *url.URL) string {
	path := u.Opaque
	if path == "" {
		path = u.EscapedPath()
	}
	if path == "" {
		path = "/"
	}
	if u.RawQuery != "" || u.ForceQuery {
		path += "?" + u.RawQuery
	}
	return path
}

// maxConnections bounds the connections that one call may use up.
const maxConnections = 3

// overConnections makes the call on an idle connection or a new one, and once more on a new one where the first is
// dead or cannot go on and the request has certainly not been run.
func (x *call) overConnections() (*answer, error) {
	var last error
	fresh := false
	for range maxConnections {
		c, err := x.connection(fresh)
		if err != nil {
			return nil, err
		}
		reused := !c.since.IsZero()
		x.watch(c)
		a, err := x.on(c)
		if err == nil {
			return a, nil
		}
		x.unwatch()
		c.abort()
		if err = x.mayRepeat(err, reused, fresh); err != nil {
			return nil, err
		}
		fresh, last = true, err
	}
	if last == nil {
		last = errors.New("the upstream closes every connection before it has answered")
	}
	return nil, last
}

func (x *call) connection(fresh bool) (*conn, error) {
	if !fresh {
		if c := x.t.pool.take(x.key); c != nil {
			return c, nil
		}
	}
	return x.t.dial(x.ctx, x.key)
}

// mayRepeat is nil if the call may go on over a fresh connection, or else the error to return.
func (x *call) mayRepeat(err error, reused, repeated bool) error {
	if again, ok := errors.AsType[*errAgain](err); ok {
		return again.refused(x)
	}
	lost, ok := errors.AsType[*errLost](err)
	if !ok || !reused || repeated || x.ctx.Err() != nil {
		return err
	}
	if x.canSend() && (!lost.wrote || idempotent(x.req.Method)) {
		return nil
	}
	return err
}

// idempotent says that running the request twice does what running it once does (RFC 9110 section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete, "":
		return true
	}
	return false
}

// on makes the call on one connection.
func (x *call) on(c *conn) (*answer, error) {
	if x.t.cfg.Auth.Kind == WindowsAuth {
		return x.signOn(c)
	}
	a, err := x.timed(c, leg{expect: x.callerExpects()}, &x.times.Upstream)
	if err != nil {
		return nil, err
	}
	if a.resp.StatusCode == http.StatusUnauthorized && x.secret[0] != "" {
		return nil, &Error{Kind: AuthFailed, NotRun: true, Err: fmt.Errorf("the upstream does not accept the %s credential of this API", x.t.cfg.Auth.Kind)}
	}
	return a, nil
}

// timed is send, with its time added to one of the call's.
func (x *call) timed(c *conn, l leg, sum *time.Duration) (*answer, error) {
	began := time.Now()
	a, err := x.send(c, l)
	*sum += time.Since(began)
	return a, err
}

func (x *call) callerExpects() bool {
	return x.body != nil && strings.EqualFold(x.req.Header.Get("Expect"), "100-continue")
}
