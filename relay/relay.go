// Package relay is the cloud program: it takes callers' requests for published connectors and hands them, over the link
// of an agent, to the APIs inside.
//
// This file is the table of contents: what a relay is made of, the complete route table, and the order of start and
// end. It is not the request path itself (connector.Proxy), nor the links (gateway), nor what is durable (store).
//
//	cfg, err := relay.Load("relay.yaml", data)
//	r, err := relay.Open(ctx, cfg, relay.Deps{Log: log}) // everything is open: store, certificate, listener, socket
//	err = r.Run(ctx)                                     // until ctx ends and everything is drained, or something breaks
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/configs"
	"sallyport/internal/syslog"
	"sallyport/relay/admin"
	"sallyport/relay/connector"
	"sallyport/relay/gateway"
	"sallyport/relay/metrics"
	"sallyport/relay/operation"
	"sallyport/relay/store"
	"sallyport/relay/traces"
	"sallyport/tunnel"
)

// Defaults that more than one place needs.
const (
	defaultHeader = configs.Size(128 << 10)
	defaultCaller = 75 * time.Second
	defaultDrain  = 25 * time.Second
	defaultKeep   = 24 * time.Hour
	// defaultOperations is the room for what calls leave behind.
	defaultOperations = configs.Size(1 << 30)
	// endTimeout bounds each step after the draining: links, listeners, the store's last writes.
	endTimeout = 10 * time.Second
	// partingTime is how long callers on connections that are open are still answered when the relay is to stop, each with the
	// word that its connection closes. To close one that only seems idle would lose the request that is on its way.
	partingTime = 500 * time.Millisecond
	// freshTime is the same for a caller who has just connected: TLS takes two round trips before the first request comes.
	freshTime = 2 * time.Second
)

// A Relay is a relay node. New gives one that is ready to Run.
type Relay struct {
	config  Config
	deps    Deps
	version string
	log     *slog.Logger
	trusted connector.Trusted
	url     *url.URL

	store        *store.Store
	gateways     *gateway.Registry
	connectors   *connector.Directory
	operations   *operation.Ledger
	proxy        *connector.Proxy
	admin        *admin.Admin
	remote       http.Handler      // the admin API over HTTPS
	access       *accessLog        // nil: off
	syslog       *syslog.Forwarder // nil: off
	certificates certificates      // nil: plain HTTP
	listener     *boundedListener
	socket       net.Listener
	traces       *traces.Tracer   // nil: not exported
	metrics      *metrics.Metrics // nil: nobody asks
	internal     net.Listener     // nil without metrics

	level      *logLevel
	drainLimit atomic.Int64 // a time.Duration
	draining   atomic.Bool
	callers    atomic.Int64 // connections that net/http serves
	fresh      atomic.Int64 // those of them on which no request has come yet
}

// New is Open for a relay whose configuration does not change while it runs.
func New(ctx context.Context, config Config, version string, log *slog.Logger) (*Relay, error) {
	return Open(ctx, config, Deps{Version: version, Log: log})
}

// Open opens everything that a relay needs. An error leaves nothing open.
func Open(ctx context.Context, config Config, d Deps) (r *Relay, err error) {
	log := d.Log
	r = &Relay{config: config, deps: d, version: d.Version, log: log, level: newLogLevel(d.Level, log, config.Log.Level)}
	r.drainLimit.Store(int64(orElse(config.Timeouts.Drain, defaultDrain)))
	opened := r // "return nil, err" sets r before the deferred call
	defer func() {
		if err != nil {
			opened.close(context.WithoutCancel(ctx))
		}
	}()
	if r.trusted, err = config.trusted(); err != nil {
		return nil, err
	}
	if r.listener, err = r.listen(ctx); err != nil {
		return nil, err
	}
	if err := r.openCertificates(); err != nil {
		return nil, err
	}
	if r.url, err = r.publicURL(); err != nil {
		return nil, err
	}
	if err := everybodys(config.data()); err != nil {
		log.Warn("the data folder is not private", "error", err)
	}
	if err := r.openState(ctx); err != nil {
		return nil, err
	}
	if r.access, err = openAccessLog(config.AccessLog.To, log); err != nil {
		return nil, err
	}
	if r.traces, err = newTraces(ctx, config.Traces, d.Version, log); err != nil {
		return nil, err
	}
	if r.syslog, err = newSyslog(config.Syslog, log); err != nil {
		return nil, err
	}
	r.proxy = connector.NewProxy(r.proxyOptions())
	if err := r.openMetrics(ctx); err != nil {
		return nil, err
	}
	if r.socket, err = admin.Listen(ctx, config.socket()); err != nil {
		return nil, err
	}
	r.admin = admin.New(admin.Config{
		Gateways: r.gateways, Connectors: r.connectors, Store: r.store, URL: r.URL(), Version: d.Version, Log: log, Backup: r.backup,
		Forward: r.forwardChange, Syslog: r.syslogStatus, Share: r.shareLink, Level: r.level.tell, LevelInForce: r.level.inForce,
		OIDC: config.adminOIDC(), Host: config.adminHost(), Peer: r.trusted.Remote,
	})
	r.remote = r.admin.Remote()
	return r, nil
}

// openState opens the store and what is read from it.
func (r *Relay) openState(ctx context.Context) (err error) {
	dir := r.config.data()
	if r.store, err = store.Open(ctx, store.Config{
		Dir: filepath.Join(dir, "store"), Log: r.log,
		LogMaxBytes: int64(r.config.AccessLog.KeepSize), LogMaxAge: r.config.AccessLog.Keep,
		ChangesMaxBytes: int64(r.config.AdminLog.KeepSize), ChangesMaxAge: r.config.AdminLog.Keep,
	}); err != nil {
		return err
	}
	gc := gateway.Config{URL: r.URL(), Dir: dir, Version: r.version, Log: r.log, Peer: r.trusted.Remote, Event: r.agentEvent}
	if err := r.config.takeTokens(&gc); err != nil {
		return fmt.Errorf("entra: %w", err)
	}
	if r.gateways, err = gateway.New(ctx, r.store, gc); err != nil {
		return fmt.Errorf("load the gateways: %w", err)
	}
	if r.connectors, err = connector.NewDirectory(ctx, r.store, r.log); err != nil {
		return fmt.Errorf("load the connectors: %w", err)
	}
	return r.openOperations(ctx)
}

// agentEvent records what an agent did where admins look. Links come only once New has returned.
func (r *Relay) agentEvent(ctx context.Context, actor, what string, on map[string]any) {
	r.admin.AgentEvent(ctx, actor, what, on)
}

// openOperations opens the record of calls that outlive their callers.
func (r *Relay) openOperations(ctx context.Context) error {
	c := r.config.Operations
	keep := orElse(c.Keep, defaultKeep)
	room := int64(orElse(c.Store, defaultOperations))
	objects, err := r.store.Objects(ctx, "operations", room, keep+operation.MaxLimit)
	if err != nil {
		return err
	}
	secret, err := r.gateways.Secret("operations")
	if err != nil {
		return fmt.Errorf("derive the operations' secret: %w", err)
	}
	r.operations, err = operation.Open(ctx, operation.Config{
		Objects: objects, Secret: secret, Log: r.log, Keep: keep, Answer: int64(c.Answer), Share: room / 4, Running: c.Running, Kept: c.Kept,
	})
	return err
}

func (r *Relay) proxyOptions() connector.Options {
	l, t := r.config.Limits, r.config.Timeouts
	o := connector.Options{
		Links: r.gateways, PublicURL: r.url, Log: r.log, Record: r.record, Trusted: r.trusted,
		Operations: r.operations, Shared: r.shared,
		HeaderLimit: int(orElse(l.Header, defaultHeader)), BodyLimit: int64(l.Body),
		Concurrent: l.Calls, ConcurrentEach: l.CallsPerConnector,
		AnswerTimeout: t.Answer, PlatformTimeout: t.PowerPlatform, CallerTimeout: orElse(t.Caller, defaultCaller), IdleTimeout: t.Idle,
	}
	if r.traces != nil {
		o.Trace = r.traces.Begin
	}
	return o
}

// publicURL is the configured one, or the listener's own address.
func (r *Relay) publicURL() (*url.URL, error) {
	if r.config.PublicURL != "" {
		u, err := parsePublicURL(r.config.PublicURL)
		if err != nil {
			return nil, fmt.Errorf("public_url: %w", err)
		}
		return u, nil
	}
	scheme := "http"
	if r.certificates != nil {
		scheme = "https"
	}
	return &url.URL{Scheme: scheme, Host: r.listener.Addr().String()}, nil
}

// URL is the relay's public URL, without a trailing slash.
func (r *Relay) URL() string { return r.url.String() }

// Addr is the address that the relay listens on.
func (r *Relay) Addr() net.Addr { return r.listener.Addr() }

// ServeHTTP is the route table, all of it. The request target is split by bytes and never given to http.ServeMux, which
// redirects "//" and ".." and decodes "%2f":
//
//	/_/link                        agents                            gateway.Registry
//	/_/healthz, /_/readyz          balancers and supervisors
//	/{gateway}/{connector}/...     callers, on any other host        connector.Proxy
//	/...                           callers, on a connector's own host name, where nothing else is served
//	/v1/...                        admins, on admin.host, where nothing else is served: admin.Admin.Remote
//
// The relay's own answers to callers lie below a connector's base path, at /_/, and are the Proxy's.
func (r *Relay) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	t, ok := parseTarget(q.RequestURI)
	if !ok {
		r.proxy.Serve(w, q, connector.Place{Problem: badTarget(q)})
		return
	}
	host := q.Host
	if !t.absolute {
		host = r.trusted.Host(q)
	}
	if name := hostName(host); r.isAdminHost(name) {
		r.serveAdmin(w, q)
		return
	} else if name != "" {
		if pub := r.connectors.ByHost(name); pub != nil {
			r.proxy.Serve(w, q, connector.Place{Published: pub, Target: t.path, Host: name})
			return
		}
	}
	if strings.HasPrefix(t.path, "/_/") && r.serveOwn(w, q, t.path) {
		return
	}
	if gw, name, rest, ok := splitConnector(t.path); ok {
		if pub := r.connectors.ByPath(gw, name); pub != nil {
			r.proxy.Serve(w, q, connector.Place{Published: pub, Target: rest})
			return
		}
	}
	r.proxy.Serve(w, q, connector.NotFound())
}

// serveOwn answers below /_/ and reports whether there was something to answer.
func (r *Relay) serveOwn(w http.ResponseWriter, q *http.Request, path string) bool {
	path, _, _ = strings.Cut(path, "?")
	switch {
	case path == tunnel.Path && q.Method == http.MethodGet:
		r.gateways.ServeLink(w, q)
	case path == "/_/healthz" && reads(q):
		plain(w, http.StatusOK, "ok\n")
	case path == "/_/readyz" && reads(q):
		r.serveReady(w)
	default:
		return false
	}
	return true
}

// unreadyAfter is how long the store may be out of reach before callers and agents should be sent to another node.
const unreadyAfter = time.Minute

func (r *Relay) serveReady(w http.ResponseWriter) {
	if why := r.unready(); why != "" {
		plain(w, http.StatusServiceUnavailable, why+"\n")
		return
	}
	plain(w, http.StatusOK, "ready\n")
}

// unready says why callers and agents should be sent to another node, "" if they need not.
func (r *Relay) unready() string {
	switch {
	case r.draining.Load():
		return "draining"
	case max(r.gateways.Broken(), r.connectors.Broken()) > unreadyAfter:
		return "the store is out of reach"
	case r.store.Trouble() != nil: // why is for the log: this is public
		return "the store cannot write"
	}
	return ""
}

func reads(q *http.Request) bool { return q.Method == http.MethodGet || q.Method == http.MethodHead }

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

// badTarget words the targets that no relay serves.
func badTarget(q *http.Request) *connector.Problem {
	if q.Method == http.MethodConnect {
		return connector.NewProblem("method-refused", "The relay is no forward proxy: CONNECT is never passed on.")
	}
	return connector.NewProblem("bad-target", "The request target must be a path, or an http(s) URL without user information.")
}

// record keeps a call's event where the configuration wants it.
func (r *Relay) record(e *connector.Event) {
	if r.metrics != nil {
		r.metrics.Observe(e)
	}
	if r.traces != nil {
		r.traces.End(e)
	}
	keep := r.config.AccessLog.Store != "off"
	forward := r.syslog != nil && r.config.Syslog.wants(admin.KindAccess)
	if r.access == nil && !keep && !forward {
		return
	}
	buf := lineBuffers.Get().(*[]byte)
	defer lineBuffers.Put(buf)
	line := appendEvent((*buf)[:0], e) // whoever takes it copies it
	*buf = line
	if r.access != nil {
		r.access.record(line)
	}
	if forward {
		r.syslog.Send(syslog.Calls(), line[:len(line)-1])
	}
	if keep {
		r.store.Append(line)
	}
}

// lineBuffers are for the time of record; they change nothing else.
var lineBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 640); return &b }}

// Run serves until ctx ends, then drains; or until a part fails, whose error it returns.
func (r *Relay) Run(ctx context.Context) error {
	// Parts live longer than ctx: they are needed until the last call has ended.
	parts, endParts := context.WithCancelCause(context.WithoutCancel(ctx))
	calls, endCalls := context.WithCancelCause(context.WithoutCancel(ctx))
	failed := make(chan error, 8)
	var wg sync.WaitGroup
	start := func(what string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(parts); err != nil && parts.Err() == nil {
				failed <- fmt.Errorf("%s: %w", what, err)
			}
		})
	}
	srv := r.newServer(calls)
	start("follow the gateways", r.gateways.Run)
	start("follow the connectors", r.connectors.Run)
	start("serve the admin socket", func(ctx context.Context) error { return r.admin.Serve(ctx, r.socket) })
	start("serve callers and agents", func(context.Context) error { return r.serve(srv) })
	if r.syslog != nil {
		start("forward to syslog", r.syslog.Run)
	}
	if r.metrics != nil {
		start("serve metrics", r.serveInternal)
	}
	if r.certificates != nil {
		start("follow the certificate", r.certificates.Run)
	}
	if r.deps.Again != nil {
		start("follow the configuration", r.follow)
	}
	r.log.Info("the relay is ready", "listen", r.Addr().String(), "url", r.URL(), "tls", r.certificates != nil)

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		r.log.Error("a part of the relay has failed; it stops", "cause", err)
	}
	r.drain(context.WithoutCancel(ctx), srv, endCalls)
	endParts(errStopping)
	wg.Wait()
	r.close(context.WithoutCancel(ctx))
	return err
}

var errStopping = errors.New("the relay is stopping")

func (r *Relay) serve(srv *http.Server) (err error) {
	if r.certificates != nil {
		err = srv.ServeTLS(r.listener, "", "")
	} else {
		err = srv.Serve(r.listener)
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) && r.draining.Load() {
		return nil
	}
	return err
}

// drain ends the serving in this order. First readiness goes and the listener closes: nobody new comes, and who is there is told
// with the next answer that the connection closes. Then the calls under way may end, for as long as the drain timeout allows; the links stay whole meanwhile, because the calls need
// them. Then whatever is left is broken off, visibly. Last the agents are told, so that they look for another node.
func (r *Relay) drain(ctx context.Context, srv *http.Server, endCalls context.CancelCauseFunc) {
	r.draining.Store(true)
	r.log.Info("draining", "calls", r.proxy.Active())
	within, cancel := context.WithTimeout(ctx, r.DrainLimit())
	defer cancel()
	r.part(within)
	err := srv.Shutdown(within)
	if err == nil {
		err = r.proxy.Wait(within)
	}
	if err != nil {
		r.log.Warn("calls were still under way when the drain timeout ended; they are broken off", "calls", r.proxy.Active())
	}
	linksWithin, cancelLinks := context.WithTimeout(ctx, endTimeout)
	defer cancelLinks()
	if err != nil {
		endCalls(connector.ErrStopping)
		r.operations.Stop(connector.ErrStopping) // each is put on record as stopped
		_ = r.proxy.Wait(linksWithin)
	}
	if err := r.gateways.Drain(linksWithin); err != nil {
		r.log.Warn("not all links have ended in time", "cause", err)
	}
	endCalls(connector.ErrStopping)
	_ = srv.Close()
	if err != nil { // whoever waited for a caller sees now that it has gone, and has a line to write
		last, cancelLast := context.WithTimeout(ctx, endTimeout)
		defer cancelLast()
		_ = r.proxy.Wait(last)
	}
}

// part lets callers go that have connections open: each is told with its next answer. It comes before Shutdown, which drops
// requests over HTTP/1 that it finds half read or that come after it. A caller whose answer had begun before cannot have been told,
// and may send its next request when that has ended, so that this lasts for partingTime after the last one; but for half of the
// drain timeout at most: calls that begin meanwhile need the rest.
func (r *Relay) part(ctx context.Context) {
	r.proxy.Leave()
	_ = r.listener.Close()
	ctx, cancel := context.WithTimeout(ctx, r.DrainLimit()/2)
	defer cancel()
	began := time.Now()
	quiet := began
	look := time.NewTicker(partingTime / 50)
	defer look.Stop()
	for r.callers.Load() > 0 && time.Since(quiet) < partingTime {
		select {
		case now := <-look.C:
			if r.proxy.Active() > 0 || r.fresh.Load() > 0 && now.Sub(began) < freshTime {
				quiet = now
			}
		case <-ctx.Done():
			return
		}
	}
}

// close closes what New has opened, the store last: everything before it may still write.
func (r *Relay) close(ctx context.Context) {
	if r.listener != nil {
		_ = r.listener.Close()
	}
	for _, l := range []net.Listener{r.socket, r.internal} {
		if l != nil {
			_ = l.Close()
		}
	}
	if r.certificates != nil {
		r.certificates.Close()
	}
	if r.access != nil {
		r.access.close()
	}
	if r.traces != nil {
		within, cancel := context.WithTimeout(ctx, endTimeout)
		defer cancel()
		r.traces.Close(within)
	}
	r.level.close()
	if r.store != nil {
		within, cancel := context.WithTimeout(ctx, endTimeout)
		defer cancel()
		if err := r.store.Close(within); err != nil {
			r.log.Error("the store did not close cleanly", "cause", err)
		}
	}
}
