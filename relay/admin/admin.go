// Package admin is the relay's admin API: HTTP and JSON on a local socket and, for whoever shows a token of the configured
// issuer, over HTTPS on a host of its own; and the Go side of it for the commands.
//
// Whoever may open the socket is an admin; its file mode decides. Over HTTPS the token's roles decide (remote.go). Every
// change, also one that was refused, is logged and kept with who made it: the user ID of the process at the other end, or
// the token's subject. The package decides nothing about gateways and connectors themselves: it checks the form of
// what comes in, calls relay/gateway and relay/connector, and words their errors as application/problem+json.
//
//	l, err := admin.Listen(ctx, "/var/lib/sallyport-relay/admin.sock")
//	err = admin.New(admin.Config{...}).Serve(ctx, l)
//
//	c := admin.NewClient(path)
//	added, err := c.AddGateway(ctx, "plant1", admin.NewJoin{Expires: time.Hour})
//
// The paths begin with /v1; wire.go has the bodies.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"sallyport/internal/issuer"
	"sallyport/internal/syslog"
	"sallyport/relay/connector"
	"sallyport/relay/gateway"
	"sallyport/relay/store"
	"sallyport/tunnel"
)

const (
	// maxBody bounds a request's body.
	maxBody = 64 << 10
	// requestTimeout bounds what one request may take, a slow disk included.
	requestTimeout = 30 * time.Second
	// stopTimeout is how long requests under way may take when the relay stops.
	stopTimeout = 5 * time.Second
)

// Config says what the admin API administers.
type Config struct {
	Gateways   *gateway.Registry
	Connectors *connector.Directory
	Store      *store.Store
	// URL is the relay's public URL without a trailing slash.
	URL string
	// Version is the relay program's version.
	Version string
	// OIDC says whose tokens count over HTTPS; nil: Remote is not used.
	OIDC *OIDC
	// Host is the host name that Remote answers on; no connector may have it.
	Host string
	// Peer gives the address of the one who sent a request over HTTPS. Default: the connection's.
	Peer func(*http.Request) string
	Log  *slog.Logger
	// Forward takes each record of what an admin did, one JSON object, besides the store. It must not block. Nil: nobody.
	Forward func(change []byte)
	// Syslog tells how the forwarding to a collector goes; nil, or a nil answer, where there is none.
	Syslog func() *syslog.Status
	// Level sets the log's level for a while, or with 0 for good; nil is the usual one. Nil: it cannot be changed.
	Level func(level *slog.Level, length time.Duration)
	// LevelInForce is the log's level; nil: it is not known. Nil: like that.
	LevelInForce func() *LevelInForce
	// Share makes the URL of a link to a connector's definition, or says why there can be none. Required.
	Share func(ctx context.Context, c *connector.Published, s connector.Share) (string, error)
	// Backup writes a backup of the relay (package backup). Required.
	Backup func(ctx context.Context, w io.Writer) error
}

// Admin answers the admin API.
type Admin struct {
	c          Config
	started    time.Time
	issuer     *issuer.Issuer // nil without Config.OIDC
	logReaders chan struct{}  // holds a token for each reader of the log

	stopping chan struct{} // closed when Serve is told to end, for those who follow the log
}

// New makes the admin API of one relay.
func New(c Config) *Admin {
	a := &Admin{c: c, started: time.Now(), logReaders: make(chan struct{}, maxLogReaders), stopping: make(chan struct{})}
	if c.OIDC != nil {
		a.issuer = issuer.New(c.OIDC.Issuer)
	}
	return a
}

// Handler is the route table.
func (a *Admin) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /v1/status": a.status,
		"GET /v1/whoami": a.whoami,

		"PUT /v1/log-level": a.setLogLevel,

		"GET /v1/gateways":                 a.listGateways,
		"POST /v1/gateways":                a.addGateway,
		"POST /v1/gateways/{name}/join":    a.newJoin,
		"POST /v1/gateways/{name}/entra":   a.allowEntra,
		"DELETE /v1/gateways/{name}/entra": a.disallowEntra,
		"DELETE /v1/gateways/{name}":       a.removeGateway,
		"POST /v1/agents/{id}/revoke":      a.revokeAgent,
		"POST /v1/agents/{id}/approve":     a.approveAgent,
		"POST /v1/agents/{id}/refuse":      a.refuseAgent,
		"GET /v1/agents/{id}/receipts":     a.receipts,
		"POST /v1/codes/{id}/approve":      a.approveCode,
		"DELETE /v1/agents/{id}":           a.removeAgent,

		"GET /v1/connectors":                               a.listConnectors,
		"POST /v1/connectors":                              a.publish,
		"PUT /v1/connectors/{gateway}/{name}":              a.change,
		"DELETE /v1/connectors/{gateway}/{name}":           a.unpublish,
		"GET /v1/connectors/{gateway}/{name}/definition":   a.definition,
		"GET /v1/connectors/{gateway}/{name}/changes":      a.changes,
		"POST /v1/connectors/{gateway}/{name}/exported":    a.exported,
		"POST /v1/connectors/{gateway}/{name}/shares":      a.share,
		"DELETE /v1/connectors/{gateway}/{name}/shares":    a.revokeShares,
		"GET /v1/connectors/{gateway}/{name}/keys":         a.listKeys,
		"POST /v1/connectors/{gateway}/{name}/keys":        a.addKey,
		"DELETE /v1/connectors/{gateway}/{name}/keys/{id}": a.revokeKey,

		"POST /v1/connectors/{gateway}/{name}/token":            a.checkToken,
		"GET /v1/connectors/{gateway}/{name}/issuer":            a.tokenIssuer,
		"POST /v1/connectors/{gateway}/{name}/keys/{id}/rotate": a.rotateKey,
		"GET /v1/connectors/{gateway}/{name}/users":             a.listUsers,
		"PUT /v1/connectors/{gateway}/{name}/users/{user}":      a.setUser,
		"DELETE /v1/connectors/{gateway}/{name}/users/{user}":   a.removeUser,
	} {
		mux.Handle(pattern, a.handle(h))
	}
	mux.Handle("GET /v1/log", a.stream(a.serveLog))
	mux.Handle("GET /v1/backup", a.stream(a.serveBackup))
	return mux
}

// Serve answers on l until ctx ends, and closes it. It is called once.
func (a *Admin) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:                      a.Handler(),
		ReadTimeout:                  requestTimeout,
		WriteTimeout:                 2 * requestTimeout,
		IdleTimeout:                  requestTimeout,
		MaxHeaderBytes:               16 << 10,
		ErrorLog:                     slog.NewLogLogger(a.c.Log.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ConnContext:                  withActor,
		DisableGeneralOptionsHandler: true,
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }() // waited for below
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	close(a.stopping)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := srv.Shutdown(stop)
	if err != nil {
		err = errors.Join(err, srv.Close())
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// A handler answers a request with a status and a body for JSON, or an error that toProblem words.
type handler func(q *http.Request) (status int, body any, err error)

func (a *Admin) handle(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		ctx, cancel := context.WithTimeout(q.Context(), requestTimeout)
		defer cancel()
		q.Body = http.MaxBytesReader(w, q.Body, maxBody)
		q = q.WithContext(ctx)
		err := permit(q)
		var status int
		var body any
		if err == nil {
			status, body, err = h(q)
		}
		if err != nil {
			a.answerError(w, q, err)
			return
		}
		answer(w, status, "application/json", body)
	})
}

// stream is handle for what writes its answer itself, in its own time.
func (a *Admin) stream(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if err := permit(q); err != nil {
			a.answerError(w, q, err)
			return
		}
		h(w, q)
	})
}

func (a *Admin) answerError(w http.ResponseWriter, q *http.Request, err error) {
	p := toProblem(err)
	if p.Status >= http.StatusInternalServerError {
		a.c.Log.Error("an admin request failed", "method", q.Method, "path", q.URL.Path, "error", err)
	}
	if p.Status == http.StatusForbidden {
		a.c.Log.Warn("admin: refused", "actor", actor(q.Context()), "method", q.Method, "path", q.URL.Path, "reason", err)
	}
	a.refused(q, p)
	problem(w, p)
}

func problem(w http.ResponseWriter, p *Problem) { answer(w, p.Status, "application/problem+json", p) }

func answer(w http.ResponseWriter, status int, kind string, body any) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if status != http.StatusNoContent {
		_ = json.NewEncoder(w).Encode(body) // who asked has gone if it fails
	}
}

// read takes the request's body, one JSON object without unknown members.
func read(q *http.Request, into any) error {
	dec := json.NewDecoder(q.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return &badRequest{"the request's body cannot be read: " + err.Error()}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &badRequest{"the request's body has more than one object"}
	}
	return nil
}

func (a *Admin) status(*http.Request) (int, any, error) {
	trouble := ""
	if err := a.c.Store.Trouble(); err != nil {
		trouble = err.Error()
	}
	var open []string
	for _, c := range a.c.Connectors.List() {
		if c.Takes(connector.AuthNone) {
			open = append(open, c.Gateway+"/"+c.Name)
		}
	}
	return http.StatusOK, Status{
		Open:    open,
		Version: a.c.Version, URL: a.c.URL, SigningKey: a.c.Gateways.Fingerprint(), Started: a.started.UTC(),
		Gateways: a.c.Gateways.Status(), Connectors: len(a.c.Connectors.List()),
		StoreBroken: max(a.c.Gateways.Broken(), a.c.Connectors.Broken()), LogDropped: a.c.Store.Dropped(),
		StoreTrouble: trouble, Syslog: a.syslog(), LogLevel: a.levelInForce(),
	}, nil
}

func (a *Admin) levelInForce() *LevelInForce {
	if a.c.LevelInForce == nil {
		return nil
	}
	return a.c.LevelInForce()
}

func (a *Admin) syslog() *syslog.Status {
	if a.c.Syslog == nil {
		return nil
	}
	return a.c.Syslog()
}

func (a *Admin) listGateways(*http.Request) (int, any, error) {
	return http.StatusOK, List[gateway.Status]{a.c.Gateways.Status()}, nil
}

func (a *Admin) addGateway(q *http.Request) (int, any, error) {
	var body AddGateway
	if err := read(q, &body); err != nil {
		return 0, nil, err
	}
	join, err := a.c.Gateways.AddGateway(q.Context(), body.Name, body.use())
	if err != nil {
		return 0, nil, err
	}
	a.event(q, "gateway added", "gateway", body.Name, "code", join.ID, "uses", join.Uses, "approve", join.Approve)
	return http.StatusCreated, joinBody(join), nil
}

func (a *Admin) newJoin(q *http.Request) (int, any, error) {
	var body NewJoin
	if err := read(q, &body); err != nil {
		return 0, nil, err
	}
	name := q.PathValue("name")
	join, err := a.c.Gateways.NewJoin(q.Context(), name, body.use())
	if err != nil {
		return 0, nil, err
	}
	a.event(q, "join code made", "gateway", name, "code", join.ID, "uses", join.Uses, "approve", join.Approve)
	return http.StatusCreated, joinBody(join), nil
}

func (j NewJoin) use() gateway.CodeUse {
	return gateway.CodeUse{Life: j.Expires, Uses: j.Uses, Approve: j.Approve}
}

func joinBody(j gateway.Admission) Join {
	return Join{
		Gateway: j.Gateway, JoinString: j.Encode(), Expires: j.Expires.Truncate(time.Second),
		Code: j.ID, Uses: j.Uses, Approve: j.Approve,
	}
}

// removeGateway takes the gateway's connectors away first: left behind, they would come to life again, keys and all, for
// another gateway that is given the same name.
func (a *Admin) removeGateway(q *http.Request) (int, any, error) {
	name := q.PathValue("name")
	if !a.c.Gateways.Exists(name) {
		return 0, nil, gateway.ErrUnknownGateway
	}
	for _, c := range a.c.Connectors.List() {
		if c.Gateway != name {
			continue
		}
		if err := a.c.Connectors.Unpublish(q.Context(), c.Gateway, c.Name); err != nil {
			return 0, nil, err
		}
		a.event(q, "connector unpublished", "gateway", c.Gateway, "connector", c.Name)
	}
	if err := a.c.Gateways.RemoveGateway(q.Context(), name); err != nil {
		return 0, nil, err
	}
	a.event(q, "gateway removed", "gateway", name)
	return http.StatusNoContent, nil, nil
}

func (a *Admin) receipts(q *http.Request) (int, any, error) {
	all, err := a.c.Gateways.Receipts(q.Context(), q.PathValue("id"))
	return http.StatusOK, List[tunnel.AuditReceipt]{all}, err
}

func (a *Admin) revokeAgent(q *http.Request) (int, any, error) {
	id := q.PathValue("id")
	if err := a.c.Gateways.RevokeAgent(q.Context(), id); err != nil {
		return 0, nil, err
	}
	a.event(q, "agent revoked", "agent", id)
	return http.StatusNoContent, nil, nil
}

func (a *Admin) removeAgent(q *http.Request) (int, any, error) {
	id := q.PathValue("id")
	if err := a.c.Gateways.RemoveAgent(q.Context(), id); err != nil {
		return 0, nil, err
	}
	a.event(q, "agent removed", "agent", id)
	return http.StatusNoContent, nil, nil
}

func (a *Admin) listKeys(q *http.Request) (int, any, error) {
	keys, err := a.c.Connectors.ListKeys(q.PathValue("gateway"), q.PathValue("name"))
	return http.StatusOK, List[connector.KeyInfo]{keys}, err
}

func (a *Admin) addKey(q *http.Request) (int, any, error) {
	var body AddKey
	if err := read(q, &body); err != nil {
		return 0, nil, err
	}
	gw, name := q.PathValue("gateway"), q.PathValue("name")
	var expires time.Time
	if body.Expires != 0 {
		expires = time.Now().Add(body.Expires)
	}
	info, secret, err := a.c.Connectors.AddLimitedKey(q.Context(), gw, name, body.Name, expires,
		connector.KeyLimits{From: body.From, Rate: body.Rate, Concurrent: body.Concurrent})
	if err != nil {
		return 0, nil, err
	}
	a.event(q, "key added", "gateway", gw, "connector", name, "key", info.Name, "key_id", info.ID)
	return http.StatusCreated, NewKey{KeyInfo: info, Key: secret}, nil
}

func (a *Admin) revokeKey(q *http.Request) (int, any, error) {
	gw, name, id := q.PathValue("gateway"), q.PathValue("name"), q.PathValue("id")
	if err := a.c.Connectors.RevokeKey(q.Context(), gw, name, id); err != nil {
		return 0, nil, err
	}
	a.event(q, "key revoked", "gateway", gw, "connector", name, "key", id)
	return http.StatusNoContent, nil, nil
}
