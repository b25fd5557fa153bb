package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/agent"
	"sallyport/agent/secret"
	"sallyport/agent/state"
	"sallyport/relay"
	"sallyport/relay/admin"
	"sallyport/relay/connector"
	"sallyport/tunnel"
)

const (
	gatewayName = "plant1"
	apiName     = "erp"
	account     = `CORP\svc-sallyport`
	version     = "demo"
)

// allow is the whole of what may be called.
var allow = [...]string{"GET /orders/**", "POST /orders"}

// A stage is the three programs and what they need: a folder, a certificate authority, a password.
type stage struct {
	dir    string
	log    *slog.Logger
	failed chan error // a part that ended by itself

	running   sync.WaitGroup
	stops     []context.CancelFunc // in the order of starting
	caFile    string
	authority *authority

	password string
	api      *internalAPI
	apiURL   string

	relayURL   string
	admin      *admin.Client
	joinString string
	agentID    string
	url, key   string // the connector's
}

func newStage(dir string, log *slog.Logger) *stage {
	return &stage{dir: dir, log: log, failed: make(chan error, 4), password: newPassword()}
}

// start runs a part until the stage is closed. Each is waited for before the one started earlier is told to stop.
func (st *stage) start(what string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	st.running.Go(func() {
		defer close(done)
		if err := run(ctx); err != nil {
			st.failed <- fmt.Errorf("%s: %w", what, err)
		} else if ctx.Err() == nil {
			st.failed <- fmt.Errorf("%s ended by itself", what)
		}
	})
	st.stops = append(st.stops, func() { cancel(); <-done })
}

func (st *stage) close() error {
	for i := len(st.stops) - 1; i >= 0; i-- {
		st.stops[i]()
	}
	st.running.Wait()
	select {
	case err := <-st.failed:
		return err
	default:
		return nil
	}
}

func (st *stage) startAPI() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	st.apiURL = "http://" + l.Addr().String()
	st.api = newInternalAPI(st.apiURL, st.password, st.log)
	srv := st.api.server()
	st.start("the internal API", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
		defer stop()
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

func (st *stage) file(name string) string { return filepath.Join(st.dir, name) }

func (st *stage) startRelay(ctx context.Context) (err error) {
	if st.authority, err = newAuthority(); err != nil {
		return err
	}
	st.caFile = st.file("ca.pem")
	if err := st.authority.write(st.caFile, st.file("relay.pem"), st.file("relay.key")); err != nil {
		return err
	}
	text := fmt.Sprintf("listen: 127.0.0.1:0\ntls: {cert: %q, key: %q}\ndata: %q\naccess_log: {to: %q}\n",
		st.file("relay.pem"), st.file("relay.key"), st.file("relay"), st.accessLog())
	config, err := relay.Load("relay.yaml", []byte(text))
	if err != nil {
		return err
	}
	r, err := relay.New(ctx, config, version, st.log.With("program", "relay"))
	if err != nil {
		return err
	}
	st.start("the relay", r.Run)
	st.relayURL = r.URL()
	st.admin = admin.NewClient(filepath.Join(st.file("relay"), "admin.sock"))
	return nil
}

func (st *stage) accessLog() string { return st.file("access.jsonl") }
func (st *stage) auditLog() string  { return filepath.Join(st.file("agent"), "audit", "audit.jsonl") }

func (st *stage) startAgent(ctx context.Context) error {
	text := fmt.Sprintf("relay: %s\ngateway: %s\nlinks: 1\nproxy: none\nca: %q\nstate: %q\napis:\n  - name: %s\n    url: %s\n"+
		"    auth: {windows: {as: account, account: '%s', secret: erp, protocol: ntlm}}\n    allow:\n      - %s\n",
		st.relayURL, gatewayName, st.caFile, st.file("agent"), apiName, st.apiURL, account, strings.Join(allow[:], "\n      - "))
	config, err := agent.ParseConfig("agent.yaml", []byte(text))
	if err != nil {
		return err
	}
	deps, err := st.joinedAgent(ctx, config)
	if err != nil {
		return err
	}
	a, err := agent.New(config, deps)
	if err != nil {
		return err
	}
	st.start("the agent", a.Run)
	return until(ctx, func() (bool, error) { return a.Up() == 1, nil })
}

// joinedAgent does what 'sallyport-agent join' and 'sallyport-agent secret set erp' do.
func (st *stage) joinedAgent(ctx context.Context, config *agent.Config) (d agent.Deps, err error) {
	d = agent.Deps{Name: "demo", Version: version, Log: st.log.With("program", "agent")}
	if d.State, err = state.Open(config.State); err != nil {
		return d, err
	}
	if d.Secrets, err = secret.Open(d.State, ""); err != nil {
		return d, err
	}
	if err := d.Secrets.Set("erp", secret.New(st.password)); err != nil {
		return d, err
	}
	join, err := tunnel.ParseJoinString(st.joinString)
	if err != nil {
		return d, err
	}
	dialer, err := agent.NewDialer(config, d)
	if err != nil {
		return d, err
	}
	d.Identity, err = agent.Join(ctx, agent.JoinConfig{
		String: join, State: d.State, Dialer: dialer, Name: d.Name, Version: version, Log: d.Log,
	})
	if err == nil {
		st.agentID = d.Identity.Agent
	}
	return d, err
}

func (st *stage) publish(ctx context.Context) error {
	p, err := st.admin.Publish(ctx, connector.Connector{Gateway: gatewayName, Name: apiName, Auth: []string{"key"}})
	if err != nil {
		return err
	}
	st.url = p.URL
	k, err := st.admin.AddKey(ctx, gatewayName, apiName, admin.AddKey{Name: "demo"})
	if err != nil {
		return err
	}
	st.key = k.Key
	return nil
}

// until asks again and again whether something holds.
func until(ctx context.Context, holds func() (bool, error)) error {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// waitForLine gives the line of a file that holds all of the texts; records are written a moment after the answer.
func waitForLine(ctx context.Context, file string, texts ...string) (line string, err error) {
	err = until(ctx, func() (bool, error) {
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
		for l := range bytes.Lines(data) {
			lacks := func(text string) bool { return !bytes.Contains(l, []byte(text)) }
			if !slices.ContainsFunc(texts, lacks) && bytes.HasSuffix(l, []byte("\n")) {
				line = strings.TrimSpace(string(l))
				return true, nil
			}
		}
		return false, nil
	})
	return line, err
}
