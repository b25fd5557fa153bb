//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
)

// roleArgument makes this program play a role instead of measuring. The role comes as JSON on standard input, whose end is
// also the role's end.
const roleArgument = "role"

// A role is one program of a way.
type role struct {
	Play     string // upstream, hop, h2-relay, h2-agent, yamux-relay, yamux-agent
	To       string // the URL of the next one: hop, agents
	Relay    string // the URL that an agent connects to
	Secure   bool   // listen with TLS: hop, relays
	Password string // of the account that the gated upstream knows
	Files    authority
}

// ready is what a role says once it can be used: its addresses.
type ready struct {
	Address string // of everybody but agents
	Secured string // upstream: the same with TLS
	Gated   string // upstream: the same behind NTLM
}

// play plays the role until standard input ends.
func play(ctx context.Context, in *bufio.Reader, out io.Writer) error {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the role: %w", err)
	}
	var r role
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("read the role: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // it ends with the process at the latest: a read from a pipe cannot be called off
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	p := &player{role: r}
	defer p.close()
	addresses, err := p.begin(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Play, err)
	}
	if err := json.NewEncoder(out).Encode(addresses); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// A player is a running role.
type player struct {
	role
	servers []*http.Server
	running sync.WaitGroup
}

func (p *player) begin(ctx context.Context) (ready, error) {
	switch p.Play {
	case "upstream":
		return p.upstream()
	case "hop":
		next, err := p.next()
		if err != nil {
			return ready{}, err
		}
		address, err := p.serve(p.Secure, &http.Server{Handler: next})
		return ready{Address: address}, err
	case "h2-relay":
		return p.relay(h2Link)
	case "yamux-relay":
		return p.relay(yamuxLink)
	case "h2-agent":
		return ready{}, p.agent(ctx, answerH2)
	case "yamux-agent":
		return ready{}, p.agent(ctx, answerYamux)
	}
	return ready{}, errors.New("there is no such role")
}

func (p *player) close() {
	for _, s := range p.servers {
		s.Close()
	}
	p.running.Wait()
}

func (p *player) upstream() (r ready, err error) {
	u := &upstream{}
	var err1, err2, err3 error
	r.Address, err1 = p.serve(false, &http.Server{Handler: u.handler()})
	r.Secured, err2 = p.serve(true, &http.Server{Handler: u.handler()})
	r.Gated, err3 = p.serve(false, u.gated(p.Password))
	return r, errors.Join(err1, err2, err3)
}

// serve serves on a port of its own.
func (p *player) serve(secure bool, s *http.Server) (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address = l.Addr().String()
	if secure {
		config, err := p.Files.listening()
		if err != nil {
			return "", err
		}
		l = tls.NewListener(l, config)
	}
	p.servers = append(p.servers, s)
	p.running.Go(func() { _ = s.Serve(l) })
	return address, nil
}

// next is a plain reverse proxy to the next program. Of httputil's defaults only one is changed: two idle connections are
// too few for anybody.
func (p *player) next() (http.Handler, error) {
	transport, err := p.transport()
	if err != nil {
		return nil, err
	}
	return reverseProxy(p.To, transport)
}

func reverseProxy(to string, transport http.RoundTripper) (http.Handler, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u); r.SetXForwarded() },
		Transport: transport,
	}, nil
}

const idleConnections = 1024

func (p *player) transport() (*http.Transport, error) {
	config, err := p.Files.dialing()
	return &http.Transport{
		TLSClientConfig: config, MaxIdleConnsPerHost: idleConnections, DisableCompression: true,
	}, err
}
