package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"sallyport/agent"
	"sallyport/agent/identity"
	"sallyport/agent/link"
	"sallyport/agent/state"
)

// Bounds of what the machine has to give.
const (
	littleDisk = 200 << 20 // bytes: the record and the log go on for days
	noDisk     = 20 << 20
	// fewHandles suffices for some hundred calls at once, each with a connection to the API.
	fewHandles = 1024
	noHandles  = 128
)

const notJoined = "sallyport-agent join"

// files examines what is on the disk, and finds out what the rest is about.
func (p *patient) files() []Finding {
	config, err := p.readConfig()
	p.path = p.o.State(p.config)
	list := []Finding{p.stateDir()}
	p.deps = agent.Deps{File: p.o.Config, Environment: p.o.Environment, Version: p.o.Version, Log: slog.New(slog.DiscardHandler)}
	if p.dir != nil {
		p.deps.State = *p.dir
		store, err := p.o.Secrets(*p.dir)
		if err != nil {
			f := Finding{ID: "secrets", Tried: "the secret store"}
			list = append(list, f.is(Fail, err.Error(), "run this as the agent's account or as an admin"))
		}
		p.deps.Secrets = store
	}
	list = append(list, p.identity())
	if err != nil && p.id != nil && !p.o.Named && errors.Is(err, fs.ErrNotExist) {
		config.Status = Fail // it has joined, and cannot run
	}
	if !p.whole && p.id != nil {
		p.config = &agent.Config{Relay: p.id.Relay, Gateway: p.id.Gateway}
	}
	if p.o.Relay != "" {
		p.config.Relay = p.o.Relay
	}
	front := append([]Finding{config}, p.warnings()...)
	if f, ok := p.signature(); ok {
		front = append(front, f)
	}
	list = append(front, list...)
	list = append(list, p.disk(), handles())
	if f, there := p.update(); there {
		list = append(list, f)
	}
	return list
}

// readConfig is 'config check'.
func (p *patient) readConfig() (Finding, error) {
	f := Finding{ID: "config", Tried: "read " + p.o.Config}
	c, err := agent.ReadConfig(p.o.Config)
	switch {
	case err == nil:
		p.config, p.whole = c, true
		return f.ok("valid: gateway %s at %s, %d APIs", c.Gateway, c.Relay, len(c.APIs)), nil
	case errors.Is(err, fs.ErrNotExist):
		p.config = &agent.Config{}
		f = f.is(Warn, "there is no such file", "'sallyport-agent join' writes a first one; 'sallyport-agent config example' shows all settings")
		if p.o.Named {
			f.Status = Fail
		}
		return f, err
	case errors.Is(err, fs.ErrPermission):
		p.config = &agent.Config{}
		return f.is(Fail, err.Error(), "run this as the agent's account or as an admin, and let the agent's account read the file"), err
	}
	p.config = &agent.Config{}
	return f.is(Fail, err.Error(), "correct the file; 'sallyport-agent config check' shows every error on a line of its own"), err
}

// warnings are what is valid and worth a second look.
func (p *patient) warnings() (list []Finding) {
	for _, w := range p.config.Warnings {
		f := Finding{ID: "config.warning", Tried: "what " + p.o.Config + " means"}
		said, mend, _ := strings.Cut(w, "; mend with: ")
		list = append(list, f.is(Warn, said, cmp.Or(mend, "see whether that is meant")))
	}
	return list
}

// signature is the one that policy_signers ask for, if any do.
func (p *patient) signature() (Finding, bool) {
	f := Finding{ID: "config.signature", Tried: "the signature of " + p.o.Config}
	if !p.whole || p.dir == nil {
		return f, false
	}
	pinned, err := agent.Signers(*p.dir)
	if err == nil && len(pinned)+len(p.config.PolicySigners) == 0 {
		return f, false
	}
	if err == nil {
		err = agent.CheckSigned(p.o.Config, p.config, *p.dir)
	}
	if err != nil {
		return f.is(Fail, err.Error(), "have the file signed anew: sallyport-agent policy sign"), true
	}
	return f.ok("a trusted key has signed it"), true
}

// stateDir looks at the directory without making it.
func (p *patient) stateDir() Finding {
	f := Finding{ID: "state", Tried: "the state directory " + p.path}
	_, err := os.Stat(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f.is(Warn, "it is not there yet", "'sallyport-agent join' makes it; if the agent has joined, name its directory with --state")
	}
	var dir state.Dir
	if err == nil {
		dir, err = state.Open(p.path)
	}
	if err != nil {
		return f.is(Fail, err.Error(), mendAccess(err))
	}
	names, err := dir.Names()
	if err != nil {
		return f.is(Fail, err.Error(), mendAccess(err))
	}
	p.dir = &dir
	for _, name := range names {
		if err := private(dir.Path(name)); err != nil {
			return f.is(Fail, err.Error(), mendAccess(err))
		}
	}
	if found := strangers(p.path, p.o.Config); found != "" {
		return f.is(Warn, found, "let the account that the agent runs as read it: chmod a+r, or chgrp and chmod g+r")
	}
	return f.ok("private, %d files", len(names))
}

// private says that other accounts can use a file, or this one cannot. What else is wrong with it is for who reads it: the
// agent may have replaced it meanwhile.
func private(path string) error {
	_, err := state.ReadFile(path, 0)
	if errors.Is(err, state.ErrExposed) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

func mendAccess(err error) string {
	switch {
	case errors.Is(err, state.ErrExposed):
		_, mend, _ := strings.Cut(err.Error(), "mend with: ")
		return cmp.Or(mend, "take the rights of other accounts away") + "; who could read the agent's key may have it: sallyport-agent key rotate"
	case errors.Is(err, fs.ErrPermission):
		return "run this as the agent's account or as an admin; the directory belongs to the account that the agent runs as"
	}
	return "name the agent's own directory with --state, or with 'state' in agent.yaml"
}

// identity is who the agent is to the relay.
func (p *patient) identity() Finding {
	f := Finding{ID: "identity", Tried: "the agent's identity"}
	if e := p.config.Identity.Entra; e != nil {
		return f.ok("it signs on with tokens of Microsoft Entra ID (%s); no token was asked for", e.Credential)
	}
	if _, err := os.Stat(p.path); p.dir == nil && !errors.Is(err, fs.ErrNotExist) {
		return f.skip("no state directory can be read") // it may well have joined
	}
	if p.dir == nil {
		return f.is(Warn, "not joined yet, as far as can be seen: no state directory can be read", "run: "+notJoined)
	}
	id, err := identity.Load(*p.dir)
	switch {
	case errors.Is(err, identity.ErrNone):
		return f.is(Warn, "not joined yet", "run: "+notJoined)
	case err != nil:
		return f.is(Fail, err.Error(), mendIdentity(err))
	case !id.Joined:
		p.id = id
		return f.is(Warn, "not joined yet: a key is there, and the relay has not confirmed it", "run it again with the same join string: "+notJoined)
	}
	p.id = id
	if p.whole && id.Gateway != p.config.Gateway {
		return f.is(Fail, fmt.Sprintf("agent.yaml names gateway %s, but this agent joined gateway %s", p.config.Gateway, id.Gateway),
			"correct 'gateway', or join again")
	}
	return f.ok("joined gateway %s as agent %s, key %s of %s", id.Gateway, id.Agent, id.Fingerprint(), id.Created.Format(time.DateOnly))
}

func mendIdentity(err error) string {
	if errors.Is(err, state.ErrExposed) || errors.Is(err, fs.ErrPermission) {
		return mendAccess(err)
	}
	return "restore identity.json from a backup, or move it away and join again"
}

func (p *patient) disk() Finding {
	f := Finding{ID: "disk", Tried: "space for " + p.path}
	if p.dir == nil {
		return f.skip("no state directory can be read")
	}
	free, err := freeSpace(p.path)
	if err != nil {
		return f.skip("the system does not say: " + err.Error())
	}
	return judgeSpace(f, free)
}

func judgeSpace(f Finding, free uint64) Finding {
	const do = "make room: a full disk keeps the agent from recording calls and from replacing its key"
	left := fmt.Sprintf("%d MB free", free>>20)
	switch {
	case free < noDisk:
		return f.is(Fail, left, do)
	case free < littleDisk:
		return f.is(Warn, left, do)
	}
	return f.ok("%s", left)
}

func handles() Finding {
	f := Finding{ID: "handles", Tried: "how many files and connections may be open"}
	limit, known := handleLimit()
	if !known {
		return f.ok("this system sets no limit")
	}
	return judgeHandles(f, limit)
}

func judgeHandles(f Finding, limit uint64) Finding {
	const do = "raise it (LimitNOFILE= of the service, ulimit -n): each call takes a connection"
	said := fmt.Sprintf("%d in this session; the service may have another limit", limit)
	switch {
	case limit < noHandles:
		return f.is(Fail, said, do)
	case limit < fewHandles:
		return f.is(Warn, said, do)
	}
	return f.ok("%s", said)
}

// links is what the running agent says of itself.
func (p *patient) links() []Finding {
	f := Finding{ID: "links", Tried: "what the running agent says of its links"}
	if p.dir == nil {
		return []Finding{f.skip("no state directory can be read")}
	}
	s, err := agent.ReadStatus(*p.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Finding{f.is(Warn, "the agent has never run here", "start it: sallyport-agent service start, or sallyport-agent run")}
	case err != nil:
		return []Finding{f.is(Fail, err.Error(), mendAccess(err))}
	case !s.Running:
		return []Finding{f.is(Warn, "the agent does not run; it last did at "+s.Written.Local().Format(time.DateTime), "start it: sallyport-agent service start, or sallyport-agent run")}
	}
	list := []Finding{judgeLinks(f, s.Links)}
	if s.Late {
		list[0] = f.is(Warn, "it runs, and last said so at "+s.Written.Local().Format(time.DateTime), "its log says why it cannot write: make room on the disk of "+p.path)
	}
	if s.Clone != nil {
		f := Finding{ID: "links.clone", Tried: "whether another process has this agent's key"}
		list = append(list, f.is(Fail, fmt.Sprintf("at %s one at %s showed it to the relay and was refused", s.Clone.Seen.Local().Format(time.DateTime), s.Clone.Peer),
			"was this machine or its key copied? Replace the key: sallyport-agent key rotate"))
	}
	return list
}

func judgeLinks(f Finding, links []link.Status) Finding {
	up, waiting := 0, false
	var why string
	for _, l := range links {
		switch {
		case l.State == link.StateUp:
			up++
		case l.Reason != "":
			why = fmt.Sprintf("; link %d is %s: %s", l.Slot, l.State, l.Reason)
		default:
			why = fmt.Sprintf("; link %d is %s", l.Slot, l.State)
		}
		waiting = waiting || l.State == link.StateWaiting
	}
	said := fmt.Sprintf("%d of %d up", up, len(links)) + why
	switch {
	case up == len(links) && up > 0:
		return f.ok("%s", said)
	case up > 0:
		return f.is(Warn, said, "it is tried again by itself; if it stays, see the findings about the relay")
	case waiting:
		return f.is(Warn, said, "an admin of the relay approves it: sallyport-relay agent approve")
	}
	return f.is(Fail, said, "see the findings about the relay, and the agent's log")
}
