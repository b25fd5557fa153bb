package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/http/httpproxy"

	"sallyport/agent"
	"sallyport/agent/identity"
	"sallyport/agent/link"
	"sallyport/agent/proxy"
	"sallyport/internal/heap"
	"sallyport/internal/systemd"
)

func (p *program) runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Serve until stopped", Args: exactly(0, 0, ""),
		Long: `Keeps links to the relay and makes the calls that agent.yaml allows. It stays up whatever the relay or the network
does. agent.yaml is read again when it changes and on SIGHUP; a broken file changes nothing and is logged. SIGTERM and
Ctrl-C drain: no new calls, running ones may end within drain_timeout.`,
		Example: "  sallyport-agent run\n  sallyport-agent run --config ./agent.yaml --state ./state --log-format json",
		RunE:    does(func(ctx context.Context, _ []string) error { return p.serve(ctx, func() {}) }),
	}
}

// serve runs the agent until ctx ends, and calls up as soon as it can be said to run: everything that is wrong here has been
// found by then. That does not wait for the network.
func (p *program) serve(ctx context.Context, up func()) error {
	c, err := agent.ReadConfig(p.config)
	if err != nil {
		return err
	}
	log, level, err := p.logger(c.Log)
	if err != nil {
		return err
	}
	dir, err := p.stateDir(c)
	if err != nil {
		return err
	}
	if p.logFile != nil {
		if err := p.logFile.Open(dir); err != nil {
			log.Warn("the log is in the event log alone", "error", err)
		}
	}
	var id *identity.Identity // with identity.entra there is none of its own
	if c.Identity.Entra == nil {
		if id, err = identity.Load(dir); err != nil {
			return err
		}
	}
	if c, err = agent.ReadSigned(p.config, dir); err != nil {
		return err
	}
	store, err := p.secrets(dir)
	if err != nil {
		return err
	}
	events, end, err := p.openEventLog(c)
	if err != nil {
		return err
	}
	defer end()
	manager := systemd.Open(p.getenv, log)
	a, err := agent.New(c, agent.Deps{
		State: dir, Identity: id, Secrets: store, File: p.config, Again: hangups(ctx), Rereading: manager.Reloading, Environment: environmentProxy(),
		EventLog: events, Name: hostName(), Version: version(), Log: log, Level: level,
	})
	if err != nil {
		return err
	}
	log.Info("agent starts", "version", version(), "identity", a.Identity(), "relay", c.Relay, "config", p.config, "state", dir.String())
	up()
	defer heap.Keep(leastGarbage, p.getenv("GOGC"))()
	err = manager.Supervise(ctx, systemd.Service{Ask: a.Pulse, Stop: func() time.Duration { return stopTime(c) }}, a.Run)
	log.Info("agent stopped")
	return err
}

// leastGarbage may gather in any case. So little is in use here that under load it would be collected many times a second.
const leastGarbage = 16 << 20

// environmentProxy reads HTTPS_PROXY and NO_PROXY once; nil if they name no proxy.
// An error is told when a way is looked for: agent.yaml may name another.
func environmentProxy() link.ProxyFunc {
	find, err := proxy.Environment(httpproxy.FromEnvironment())
	if err != nil {
		return func(*url.URL) (*url.URL, error) { return nil, err }
	}
	return find
}

// hostName is shown to the relay's admins, so that they know which machine an agent is on.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

func (p *program) versionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "version", Short: "Say which version this is", Args: exactly(0, 0, ""),
		RunE: does(func(context.Context, []string) error {
			if asJSON {
				return json.NewEncoder(p.out).Encode(map[string]string{
					"version": version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
				})
			}
			_, err := fmt.Fprintln(p.out, "sallyport-agent", version())
			return err
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "for scripts")
	return c
}

// version is what the linker was told, or else the commit that the Go toolchain recorded.
func version() string {
	if linked != "" {
		return linked
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return "devel-" + s.Value[:min(len(s.Value), 12)]
			}
		}
	}
	return "devel"
}

// linked is set by the linker (-X main.linked=...); a build without it names the revision, as the relay's does.
var linked string
