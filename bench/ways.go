//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A way leads from a caller to the upstream.
type way struct {
	name   string
	target target
	inside []*process // what is between the caller and the upstream
}

// cpu is the processor time of all that is between.
func (w *way) cpu() (sum time.Duration, err error) {
	for _, p := range w.inside {
		if !p.running() {
			return 0, fmt.Errorf("%s has ended", p.name)
		}
		d, err := p.cpu()
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

func (w *way) peak() (sum int64, err error) {
	for _, p := range w.inside {
		kB, err := p.peak()
		if err != nil {
			return 0, err
		}
		sum += kB
	}
	return sum, nil
}

// A stage is all processes of a run, and a directory for their files. Every way has its own; the upstream is everybody's.
type stage struct {
	*options
	progress  io.Writer
	dir       string
	files     authority
	password  string
	began     time.Time // when everything was up
	upstream  ready
	processes []*process // in the order of starting
	ways      []*way
	lab       lab                                  // with --kerberos
	agentYAML string                               // more lines for agent.yaml
	through   func(address string) (string, error) // where the agent dials instead of the relay's address; nil: there
}

func newStage(ctx context.Context, o *options, progress io.Writer) (s *stage, err error) {
	s = &stage{options: o, progress: progress, password: rand.Text()}
	if s.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return nil, err
	}
	if err := s.raise(ctx); err != nil {
		s.close()
		return nil, err
	}
	s.began = time.Now()
	return s, nil
}

func (s *stage) raise(ctx context.Context) (err error) {
	if s.files, err = newAuthority(s.dir); err != nil {
		return err
	}
	if s.kerberos {
		if s.lab, err = openLab(); err != nil {
			return err
		}
		s.agentYAML += s.lab.agentYAML()
	}
	if _, s.upstream, err = s.start("upstream", role{Play: "upstream", Password: s.password}); err != nil {
		return err
	}
	names := s.options.ways
	if s.auth || s.kerberos {
		names = []string{"sallyport"}
	}
	for _, name := range names {
		s.say("start %s", name)
		began, w := len(s.processes), &way{name: name}
		if w.target, err = s.build(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		w.inside = slices.Clone(s.processes[began:])
		if err := w.target.await(ctx, small); err != nil {
			return fmt.Errorf("%s: %w\n%s", name, err, s.logs(w))
		}
		s.ways = append(s.ways, w)
	}
	return nil
}

// logs is what the processes of a way said last.
func (s *stage) logs(w *way) string {
	var b strings.Builder
	for _, p := range w.inside {
		fmt.Fprintf(&b, "--- %s\n%s\n", p.name, tail(s.dir, p.name))
	}
	return b.String()
}

// close ends every process, the last one first, and removes what they wrote.
func (s *stage) close() {
	for _, p := range slices.Backward(s.processes) {
		p.stop()
	}
	os.RemoveAll(s.dir)
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.progress, format+"\n", args...) }

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

func (s *stage) start(name string, r role) (*process, ready, error) {
	r.Files = s.files
	p, addresses, err := startRole(s.dir, name, r)
	if err == nil {
		s.processes = append(s.processes, p)
	}
	return p, addresses, err
}

// build starts what is between and gives what callers connect to.
func (s *stage) build(ctx context.Context, name string) (target, error) {
	switch name {
	case "direct":
		if s.tls {
			return s.at(s.upstream.Secured)
		}
		return s.at(s.upstream.Address)
	case "hop1":
		_, hop, err := s.start("hop", role{Play: "hop", To: s.url(false, s.upstream.Address), Secure: s.tls})
		if err != nil {
			return target{}, err
		}
		return s.at(hop.Address)
	case "hop2":
		return s.twoHops()
	case "h2", "yamux":
		return s.tunnel(name)
	default:
		return s.sallyport(ctx)
	}
}

func (s *stage) twoHops() (target, error) {
	_, second, err := s.start("hop-inside", role{Play: "hop", To: s.url(false, s.upstream.Address), Secure: s.tls})
	if err != nil {
		return target{}, err
	}
	_, first, err := s.start("hop-outside", role{Play: "hop", To: s.url(s.tls, second.Address), Secure: s.tls})
	if err != nil {
		return target{}, err
	}
	return s.at(first.Address)
}

func (s *stage) tunnel(name string) (target, error) {
	_, relay, err := s.start(name+"-relay", role{Play: name + "-relay", Secure: s.tls})
	if err != nil {
		return target{}, err
	}
	_, _, err = s.start(name+"-agent", role{
		Play: name + "-agent", Relay: s.url(s.tls, relay.Address), To: s.url(false, s.upstream.Address),
	})
	if err != nil {
		return target{}, err
	}
	return s.at(relay.Address)
}

// url is an address as a URL; certificates are for a name.
func (s *stage) url(secure bool, address string) string {
	if secure {
		return "https://" + strings.Replace(address, "127.0.0.1", hostName, 1)
	}
	return "http://" + address
}

// at is the target at an address, by TLS if callers use it.
func (s *stage) at(address string) (target, error) {
	t := target{address: address, host: address}
	if !s.tls {
		return t, nil
	}
	var err error
	t.host = strings.Replace(address, "127.0.0.1", hostName, 1)
	t.tls, err = s.files.dialing()
	return t, err
}

// await calls until the answer is right.
func (t target) await(ctx context.Context, w work) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		_, err := t.once(ctx, w)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// once makes one call on a connection of its own.
func (t target) once(ctx context.Context, w work) (string, error) {
	c, err := t.dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.conn.Close()
	body, err := c.call(t.request(w), w)
	return string(body), err
}
