// Package doctor examines an agent's installation: its files, the way to the relay, its links and its APIs. Each finding
// says what was tried, what came back and what helps.
//
// It mends nothing, and it takes no link of the agent's: what is known of links it reads from the running
// agent's own status, and asks the relay for. It goes the agent's own ways (agent/link, agent/upstream), so that what it finds is what the agent
// finds. Secrets are used where an API has a call to try, and shown nowhere.
//
//	findings := doctor.Examine(ctx, doctor.Options{Config: path, State: dir})
//	failed := doctor.Worst(findings) == doctor.Fail
//
// The order of reading: doctor.go (what is examined, and the bounds), local.go (this machine), relay.go (the way to the relay),
// member.go (what the relay says of the agent), api.go (the APIs).
package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"sallyport/agent"
	"sallyport/agent/identity"
	"sallyport/agent/link"
	"sallyport/agent/secret"
	"sallyport/agent/state"
	"sallyport/internal/service"
)

// Bounds of an examination: somebody waits for it.
const (
	// wholeTimeout bounds all of it, probeTimeout each thing that is tried.
	wholeTimeout = time.Minute
	probeTimeout = 10 * time.Second
	// atOnce is how many APIs are examined at the same time.
	atOnce = 16
	// lineLimit bounds each text of a finding in characters: some of it comes from others.
	lineLimit = 600
)

// A Status says how bad a finding is.
type Status string

// The values of Status.
const (
	OK   Status = "ok"
	Skip Status = "skip" // it could not be examined, for a reason that Found says
	Warn Status = "warn"
	Fail Status = "fail"
)

// A Finding is one thing that was examined. All texts are one line, and hold no secret.
type Finding struct {
	// ID names what was examined, for scripts: relay.tls, api.orders.auth.
	ID string `json:"id"`
	// Tried is what was done, Found what came of it, Do what helps where Status is not OK.
	Tried  string `json:"tried"`
	Status Status `json:"status"`
	Found  string `json:"found"`
	Do     string `json:"do,omitempty"`
}

// Options say what is examined.
type Options struct {
	// Config is the path of agent.yaml. Named says that somebody asked for exactly this file, so that it must be there.
	Config string
	Named  bool
	// State gives the path of the state directory that goes with a configuration.
	State func(*agent.Config) string
	// Secrets opens the secrets in a state directory.
	Secrets func(state.Dir) (*secret.Store, error)
	// API is the only API to examine; empty: all.
	API string
	// Caller is the person in whose name APIs with as: caller are called: a user principal name or a SID; empty: they are not called.
	Caller string
	// Relay is the URL of the relay to examine the way to, before joining or before the relay moves; empty: the agent's own.
	Relay string
	// Environment says which proxy the environment names; nil: none.
	Environment link.ProxyFunc
	// Version is the program's, Program its path; empty: no update of it is looked for.
	Version, Program string
	// Service asks the machine about the agent's service; nil: nobody does.
	Service func(context.Context) (service.Status, error)
}

// ErrNoAPI is wrapped by Examine's error about an API that the configuration does not have.
var ErrNoAPI = errors.New("no such API")

// A patient is what is known of an installation.
type patient struct {
	o      Options
	config *agent.Config // with the relay at least, if that is known
	whole  bool          // config is a valid agent.yaml
	path   string        // of the state directory
	dir    *state.Dir    // nil: it cannot be used
	id     *identity.Identity
	deps   agent.Deps
	domain questions
}

// Examine tries everything that can be tried and gives the findings in a fixed order. It takes a minute at most. The
// error is about Options alone.
func Examine(ctx context.Context, o Options) ([]Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, wholeTimeout)
	defer cancel()
	p := &patient{o: o}
	list := p.files()
	if o.API != "" && p.whole && p.api(o.API) == nil {
		return nil, fmt.Errorf("%w: %s has none that is named %q", ErrNoAPI, o.Config, o.API)
	}
	var relay []Finding
	var apis [][]Finding
	var wg sync.WaitGroup
	wg.Go(func() { relay = p.examineRelay(ctx) })
	wg.Go(func() { apis = p.examineAPIs(ctx) })
	wg.Wait()
	list = append(list, relay...)
	if f, there := p.service(ctx); there {
		list = append(list, f)
	}
	list = append(list, p.links()...)
	for _, one := range apis {
		list = append(list, one...)
	}
	for i := range list {
		list[i] = list[i].clean()
	}
	return list, nil
}

// Worst is the worst status of all findings; OK without any.
func Worst(list []Finding) Status {
	worst, rank := OK, map[Status]int{OK: 0, Skip: 1, Warn: 2, Fail: 3}
	for _, f := range list {
		if rank[f.Status] > rank[worst] {
			worst = f.Status
		}
	}
	return worst
}

func (p *patient) api(name string) *agent.API {
	for i := range p.config.APIs {
		if p.config.APIs[i].Name == name {
			return &p.config.APIs[i]
		}
	}
	return nil
}

// bounded is the time for one thing that is tried.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, probeTimeout)
}

func (f Finding) is(s Status, found, do string) Finding {
	f.Status, f.Found, f.Do = s, found, do
	return f
}

func (f Finding) ok(format string, args ...any) Finding {
	return f.is(OK, fmt.Sprintf(format, args...), "")
}

func (f Finding) skip(why string) Finding { return f.is(Skip, why, "") }

// failed is an error of the agent's own ways, whose mend is shown apart where there is one.
func (f Finding) failed(err error, do string) Finding {
	if e, ok := errors.AsType[*link.DialError](err); ok && e.Mend != "" {
		return f.is(Fail, e.Phase+": "+e.Err.Error(), e.Mend)
	}
	return f.is(Fail, err.Error(), do)
}

// clean makes texts that others had a hand in fit for a terminal.
func (f Finding) clean() Finding {
	f.Tried, f.Found, f.Do = oneLine(f.Tried), oneLine(f.Found), oneLine(f.Do)
	return f
}

func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > lineLimit {
		return string(r[:lineLimit]) + "..."
	}
	return s
}
