package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/doctor"
	"sallyport/internal/service"
)

func (p *program) checkCommand() *cobra.Command {
	var o checkOptions
	c := &cobra.Command{
		Use: "check", Short: "Examine this installation, the way to the relay and the APIs", Args: exactly(0, 0, ""),
		Long: `Examines everything that has to be right for calls to get through, and says of each thing what was tried, what came back and
what to do: agent.yaml and who can read and write it, the state directory, the agent's key, disk and open files; DNS, proxy,
TLS and who issued the certificate, the clock, WebSockets; the service and the running agent's links; and of each API DNS, TLS and which
authentication it asks for. An API with a check in agent.yaml (check: GET /health) is called with its own credential, one with as: caller in the name of --caller.

It mends nothing, shows no secret, works before joining, and ends within a minute. Each run asks each API once without a
credential, and once with it where there is a check: do not repeat it with a wrong password, which can lock the account.
Run it as the agent's account: as another one it may see other files, another proxy and another Kerberos ticket. With
--as-service it runs as the service does, with its account, environment and credentials: on Linux root has systemd do that; on Windows the
service itself does it for an administrator, and one that is stopped is started for that alone and ends again.

With --egress it tries nothing, and lists every host and port that the configuration leads to, and why, as 'policy show
--network' does.

Exit codes: 0 all is well, or there are warnings alone; 1 something failed; 2 wrong usage, or no API of that name.`,
		Example: "  sallyport-agent check\n  sallyport-agent check --api orders\n  sallyport-agent check --json | jq '.[] | select(.status == \"fail\")'\n" +
			"  sudo sallyport-agent check --as-service\n  sallyport-agent check --relay https://relay.example.com     # before joining\n  sallyport-agent check --api orders --caller anna@corp.example\n  sallyport-agent check --egress",
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		err := does(func(ctx context.Context, _ []string) error { return p.check(ctx, o) })(cmd, args)
		if errors.Is(err, doctor.ErrNoAPI) {
			return exitError{exitUsage, err}
		}
		return err
	}
	f := c.Flags()
	f.StringVar(&o.api, "api", "", "examine this API alone; the relay is examined too")
	f.StringVar(&o.caller, "caller", "", "call APIs with as: caller in the name of this person (user principal name or SID)")
	f.StringVar(&o.relay, "relay", "", "examine the way to the relay at this URL: before joining, or before the relay moves")
	f.BoolVar(&o.json, "json", false, "for scripts: an array of findings")
	f.BoolVar(&o.asService, "as-service", false, "as the installed service runs; needs root, on Windows an administrator's rights")
	f.BoolVar(&o.egress, "egress", false, "list where the configuration leads to, and try nothing")
	c.MarkFlagsMutuallyExclusive("egress", "api")
	c.MarkFlagsMutuallyExclusive("egress", "as-service")
	c.MarkFlagsMutuallyExclusive("egress", "caller")
	c.MarkFlagsMutuallyExclusive("egress", "relay")
	return c
}

type checkOptions struct {
	api, caller, relay      string
	json, asService, egress bool
}

func (p *program) check(ctx context.Context, o checkOptions) error {
	switch {
	case o.egress:
		return p.showNetwork(o.json)
	case o.asService:
		return p.checkAsService(ctx, o)
	}
	list, err := p.examine(ctx, o.api, o.caller, o.relay)
	if err != nil {
		return err
	}
	if o.json {
		enc := json.NewEncoder(p.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(list)
	} else {
		err = printFindings(p.out, list)
	}
	if err == nil && doctor.Worst(list) == doctor.Fail {
		return exitError{code: exitFailed}
	}
	return err
}

func (p *program) examine(ctx context.Context, api, caller, relay string) ([]doctor.Finding, error) {
	own, err := service.OwnProgram()
	if err != nil {
		own = "" // no update of it is looked for
	}
	return doctor.Examine(ctx, doctor.Options{
		Config: p.config, Named: p.config != defaultConfig(), API: api, Caller: caller, Relay: relay, Environment: environmentProxy(), Version: version(), Program: own,
		State: func(c *agent.Config) string {
			if c.State == "" { // left out, or the file is wrong
				c = &agent.Config{State: agent.StateNamedIn(p.config)}
			}
			return p.stateOf(c)
		},
		Secrets: p.secrets,
		Service: func(ctx context.Context) (service.Status, error) {
			spec, err := p.serviceSpec()
			if err != nil {
				return service.Status{}, err
			}
			return service.Ask(ctx, spec)
		},
	})
}

// checkAsService has the service's own account examine the installation.
func (p *program) checkAsService(ctx context.Context, o checkOptions) error {
	spec, err := p.serviceSpec()
	if err != nil {
		return err
	}
	args := []string{"check", "--config", spec.Config, "--state", spec.State}
	if o.api != "" {
		args = append(args, "--api", o.api)
	}
	if o.caller != "" {
		args = append(args, "--caller", o.caller)
	}
	if o.relay != "" {
		args = append(args, "--relay", o.relay)
	}
	if o.json {
		args = append(args, "--json")
	}
	code, err := service.RunAs(ctx, spec, args, p.out, p.err)
	if err == nil && code != 0 {
		err = exitError{code: code}
	}
	return err
}

// printFindings writes a line for each finding, what to do below those that are not well, and a summary.
func printFindings(w io.Writer, list []doctor.Finding) (err error) {
	marks := map[doctor.Status]string{doctor.OK: "ok  ", doctor.Skip: "-   ", doctor.Warn: "WARN", doctor.Fail: "FAIL"}
	count := map[doctor.Status]int{}
	line := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format, args...)
		}
	}
	for _, f := range list {
		count[f.Status]++
		line("%s  %s: %s: %s\n", marks[f.Status], f.ID, f.Tried, f.Found)
		if f.Do != "" {
			line("      do: %s\n", f.Do)
		}
	}
	line("\n%d ok, %d warnings, %d failed, %d not examined\n", count[doctor.OK], count[doctor.Warn], count[doctor.Fail], count[doctor.Skip])
	return err
}
