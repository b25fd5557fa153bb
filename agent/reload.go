package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"time"

	"sallyport/agent/audit"
	"sallyport/configs"
)

// pollEvery is how often the file is looked at. Watching by the operating system's events misses network file systems
// and the renames of editors and of Kubernetes.
const pollEvery = 2 * time.Second

// Reload puts another configuration in force. Exchanges that run finish under the old one; APIs that have not changed
// keep their connections. On error the old one stays in force.
func (a *Agent) Reload(c *Config) error {
	a.reloadMu.Lock()
	defer a.reloadMu.Unlock()
	if c.Gateway != a.config.Gateway {
		return fmt.Errorf("gateway cannot change from %s to %s while the agent runs: join the other gateway", a.config.Gateway, c.Gateway)
	}
	old := a.now.Load()
	next, err := a.build(c, old)
	if err != nil {
		return err
	}
	a.now.Store(next)
	a.status.loaded(nil)
	old.discard(next)
	a.ship.wake()
	a.links.Each(a.offer)
	a.event(audit.Event{Kind: audit.Policy, Hash: next.hash, Was: old.hash})
	a.inForce(c, next.hash)
	a.log.Info("configuration in force", "apis", len(next.names), "policy", next.hash)
	a.warn(c)
	if c.Relay != a.config.Relay || c.Links != a.config.Links || c.Proxy != a.config.Proxy || c.CA != a.config.CA ||
		c.State != a.config.State || c.DrainTimeout != a.config.DrainTimeout || c.Log != a.config.Log || !reflect.DeepEqual(c.Audit, a.config.Audit) || !reflect.DeepEqual(c.Metrics, a.config.Metrics) || !reflect.DeepEqual(c.Identity, a.config.Identity) {
		a.log.Warn("relay, identity, links, state, log, audit, metrics, proxy, ca and drain_timeout count from the next start: restart the agent")
	}
	return nil
}

// A version is what tells one content of the file from another.
type version struct {
	modified time.Time
	size     int64
	sum      [sha256.Size]byte
}

// watch reads the file again when it changes, until ctx ends.
func (a *Agent) watch(ctx context.Context) {
	if a.deps.File == "" {
		return
	}
	seen := a.file
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	missing := ""
	for {
		force := false
		select {
		case <-ctx.Done():
			return
		case <-a.deps.Again:
			force = true
		case <-tick.C:
		}
		done := a.rereading(force)
		next, err := look(a.deps.File, seen)
		switch {
		case err == nil && (force || missing != "" || next.sum != seen.sum): // missing: so that the status tells of what is there now
			a.reread()
		case err != nil && err.Error() != missing:
			a.status.loaded(err)
			a.log.Error("the configuration cannot be read; the previous one stays in force", "error", err)
		}
		seen, missing = next, ""
		if err != nil {
			missing = err.Error()
		}
		done()
	}
}

// rereading tells who wants to know that the file is read again because that was asked for.
func (a *Agent) rereading(asked bool) (done func()) {
	if !asked || a.deps.Rereading == nil {
		return func() {}
	}
	return a.deps.Rereading()
}

// look gives the file's version, and reads it only if time or size differ from those of seen.
func look(path string, seen version) (version, error) {
	f, err := os.Open(path)
	if err != nil {
		return seen, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return seen, err
	}
	v := version{modified: info.ModTime(), size: info.Size(), sum: seen.sum}
	// Two changes within one tick of a coarse clock leave the time as it is: a young file is read each time.
	if v.modified.Equal(seen.modified) && v.size == seen.size && time.Since(v.modified) > 2*pollEvery {
		return v, nil
	}
	data, err := io.ReadAll(io.LimitReader(f, configs.MaxSize+1))
	if err != nil {
		return seen, err
	}
	v.sum = sha256.Sum256(data)
	return v, nil
}

// reread puts what is in the file in force, or says everything that is wrong with it.
func (a *Agent) reread() {
	c, err := ReadSigned(a.deps.File, a.deps.State)
	if err == nil {
		err = a.Reload(c)
	}
	if err == nil {
		return
	}
	why := "invalid"
	if errors.Is(err, ErrUnsigned) {
		why = "unsigned"
	}
	hash := a.now.Load().hash
	a.event(audit.Event{Kind: audit.Policy, Hash: hash, Was: hash, Verdict: audit.Refused, Problem: why})
	a.notify(policyNotice{Policy: hash, Refused: why})
	a.status.loaded(err)
	a.log.Error("the configuration is wrong; the previous one stays in force", "file", a.deps.File)
	for _, one := range bytes.Split([]byte(err.Error()), []byte("\n")) {
		a.log.Error("configuration", "error", string(one))
	}
}

// StateNamedIn is the setting 'state' of a file that may be wrong everywhere else; empty if none can be read.
func StateNamedIn(path string) string {
	data, err := readFile(path)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(data) {
		if !bytes.HasPrefix(line, []byte("state:")) {
			continue
		}
		var named struct {
			State string `yaml:"state"`
		}
		if configs.Load(path, line, &named, nil) == nil {
			return named.State
		}
	}
	return ""
}

// ReadConfig reads agent.yaml from a file, to look at it: nobody's signature is asked for (see ReadSigned).
func ReadConfig(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return parseFile(path, data)
}
