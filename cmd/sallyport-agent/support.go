package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/audit"
	"sallyport/agent/logfile"
	"sallyport/agent/state"
	"sallyport/agent/support"
	"sallyport/configs"
	"sallyport/internal/service"
)

type supportOptions struct {
	out           string
	since         time.Duration
	refused, list bool
}

func (p *program) supportCommand() *cobra.Command {
	var o supportOptions
	c := &cobra.Command{
		Use: "support-bundle", Short: "Make an archive for who helps: versions, configuration, findings, log", Args: exactly(0, 0, ""),
		Long: `Writes a zip archive with what helps to find out what is wrong: versions, agent.yaml, where it leads to, what 'check' finds, the
status, the service's log, the names and rights of the files in the state directory, and what is on record beside calls.

No secret is in it: those that this machine knows are searched for in every file and replaced, and so is what looks like one.
Host names, addresses, accounts and paths are in it: look through it before it leaves your company. With --refused it has the
calls on record that were refused or failed too, with their paths and who made them. Run it as root: the log is not everybody's.`,
		Example: "  sudo sallyport-agent support-bundle\n  sallyport-agent support-bundle --since 2h --refused --out bundle.zip\n  sallyport-agent support-bundle --dry-run",
		RunE:    does(func(ctx context.Context, _ []string) error { return p.supportBundle(ctx, o) }),
	}
	c.Flags().StringVar(&o.out, "out", "", "the archive's path, which must not be there yet (default: sallyport-support-HOST-TIME.zip here)")
	o.since = 24 * time.Hour
	c.Flags().Var((*configs.Span)(&o.since), "since", "how far back log and record go")
	c.Flags().BoolVar(&o.refused, "refused", false, "with the calls on record that were refused or failed")
	c.Flags().BoolVar(&o.list, "dry-run", false, "collect everything, list what would be written, and write nothing")
	return c
}

func (p *program) supportBundle(ctx context.Context, o supportOptions) error {
	now := time.Now()
	if o.out == "" {
		o.out = fmt.Sprintf("sallyport-support-%s-%s.zip", hostName(), now.UTC().Format("20060102T150405Z"))
	}
	fmt.Fprintln(p.err, "Examining the installation, which takes up to a minute...")
	parts := p.parts(ctx, o)
	mask := support.NewMask(p.knownSecrets()...)
	var archive bytes.Buffer
	names, err := support.Write(&archive, mask, hostName(), now, parts)
	if err != nil {
		return err
	}
	if o.list {
		for _, name := range names {
			fmt.Fprintln(p.out, "would write", name)
		}
		return nil
	}
	f, err := os.OpenFile(o.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make the archive: %w", err)
	}
	_, err = f.Write(archive.Bytes())
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the archive: %w", err), os.Remove(o.out))
	}
	fmt.Fprintf(p.out, "Wrote %s (%d kB). Look through it before you pass it on.\n", o.out, (archive.Len()+1023)>>10)
	for _, part := range parts {
		if part.Err != nil {
			fmt.Fprintf(p.out, "  without %s: %s\n", part.Name, mask.Bytes([]byte(part.Err.Error())))
		}
	}
	return nil
}

// parts collects what goes in. What cannot be had does not keep the rest away.
func (p *program) parts(ctx context.Context, o supportOptions) []support.Part {
	part := func(name, why string, text []byte, err error) support.Part {
		return support.Part{Name: name, Why: why, Text: text, Err: err}
	}
	capture := func(f func(p *program) error) ([]byte, error) {
		var out bytes.Buffer
		sub := *p
		sub.out = &out
		err := f(&sub)
		return out.Bytes(), err
	}
	versions, err := json.MarshalIndent(map[string]string{
		"version": version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "config": p.config, "proxy_of_this_session": sessionProxy(),
	}, "", "  ")
	list := []support.Part{part("version.json", "versions, and the proxy that the session has which made this", versions, err)}
	text, err := os.ReadFile(p.config)
	list = append(list, part("agent.yaml", "the configuration as it is now", text, err))
	text, err = capture(func(p *program) error { return p.showNetwork(false) })
	list = append(list, part("network.txt", "every host and port that it leads to, and why", text, err))
	found, err := p.examine(ctx, "", "", "")
	text, jsonErr := json.MarshalIndent(found, "", "  ")
	list = append(list, part("check.json", "what 'sallyport-agent check' found", text, errors.Join(err, jsonErr)))
	text, err = capture(func(p *program) error { return printFindings(p.out, found) })
	list = append(list, part("check.txt", "the same, to be read", text, err))
	text, err = capture(func(p *program) error { return p.showStatus(true) })
	list = append(list, part("status.json", "what the agent last said of itself", text, err))
	text, err = p.stateFiles()
	list = append(list, part("files.txt", "the files of the state directory: rights, size, time; not what is in them", text, err))
	if spec, err := p.serviceSpec(); err == nil {
		st, askErr := service.Ask(ctx, spec)
		text, jsonErr := json.MarshalIndent(st, "", "  ")
		list = append(list, part("service.json", "what the machine says of the service", text, errors.Join(askErr, jsonErr)))
		text, err = service.Journal(ctx, spec, o.since)
		list = append(list, part("log.txt", fmt.Sprintf("the service's log of the last %s", o.since), text, err))
	}
	if dir, err := p.openState(); err == nil {
		text, err := logfile.Newest(dir, logFileLimit)
		if !errors.Is(err, fs.ErrNotExist) {
			list = append(list, part("agent.log", "the newest lines of the service's log files", text, err))
		}
	}
	text, err = p.recorded(ctx, o)
	return append(list, part("record.txt", "what is on record: starts, stops, policies; calls only if they were asked for", text, err))
}

// logFileLimit is how much of the log files is collected, in bytes; the archive has the end of it.
const logFileLimit = 2 << 20

// sessionProxy is what HTTPS_PROXY says to this process; its password is masked with all the rest.
func sessionProxy() string { return cmp.Or(os.Getenv("HTTPS_PROXY"), os.Getenv("https_proxy"), "none") }

// statePath is the state directory's path, whether it is there or not.
func (p *program) statePath() string {
	c, _, err := p.configIfThere()
	if err != nil {
		c = &agent.Config{State: agent.StateNamedIn(p.config)}
	}
	return p.stateOf(c)
}

// openState opens the state directory if it is there.
func (p *program) openState() (state.Dir, error) {
	path := p.statePath()
	if _, err := os.Stat(path); err != nil {
		return state.Dir{}, err
	}
	return state.Open(path)
}

func (p *program) stateFiles() ([]byte, error) {
	var out bytes.Buffer
	path := p.statePath()
	err := fs.WalkDir(os.DirFS(path), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil // deleted a moment ago
		}
		fmt.Fprintf(&out, "%s %10d %s %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339), name)
		return nil
	})
	return append(fmt.Appendf(nil, "%s\n", path), out.Bytes()...), err
}

func (p *program) recorded(ctx context.Context, o supportOptions) ([]byte, error) {
	dir, err := p.openState()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	from := time.Now().Add(-o.since)
	_, err = audit.Events(ctx, dir, func(_ []byte, e audit.Event) error {
		call := e.Method != ""
		if e.Time.Before(from) || call && (!o.refused || e.Verdict != audit.Refused && e.Problem == "") {
			return nil
		}
		fmt.Fprintln(&out, eventText(e))
		return nil
	})
	return out.Bytes(), err
}

// knownSecrets are the values of everything in the secret store that this account can read.
func (p *program) knownSecrets() (values []string) {
	dir, err := p.openState()
	if err != nil {
		return nil
	}
	store, err := p.secrets(dir)
	if err != nil {
		return nil
	}
	list, err := store.List()
	if err != nil {
		return nil
	}
	for _, s := range list {
		if v, err := store.Get(s.Name); err == nil {
			values = append(values, v.Reveal())
		}
	}
	return values
}
