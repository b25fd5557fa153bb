//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const gatewayName = "plant1"

// relayYAML is as short as a user's: the access log goes where it goes by default, to standard output and to the store.
const relayYAML = `public_url: %[1]s
listen: %[2]s
%[3]sdata: %[4]s/relay
socket: %[4]s/relay.sock
`

const relayTLS = `tls:
  cert: %s
  key: %s
`

// agentYAML has the allow-list of a small order system. What the benchmark calls is admitted by rules in its midst.
const agentYAML = `relay: %[1]s
gateway: plant1
state: %[2]s/agent
proxy: none
%[3]sapis:
%[4]s`

const apiYAML = `  - name: %s
    url: %s
    auth: %s
    allow:
      - GET /customers/**
      - GET,HEAD /products/{id}
      - GET /products/{id}/prices
      - POST /orders
      - GET,PATCH /orders/{id}
      - GET /orders/{id}/lines
      - POST /orders/{id}/lines
      - DELETE /orders/{id}/lines/{line}
      - POST /orders/{id}:release
      - GET /reports/{name}/export
      - POST /imports/{name}
      - GET /handshakes
    limits: {concurrent: 1024}
`

const passwordName = "bench"

// binaries builds the two programs, unless they are given.
func (s *stage) binaries(ctx context.Context) (relay, agent string, err error) {
	dir := s.bin
	if dir == "" {
		dir = s.path("bin")
		s.say("build sallyport-relay and sallyport-agent")
		out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sallyport").Output()
		if err != nil {
			return "", "", errors.New("the source is not here: run this in bench/, or give the programs with --bin")
		}
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", dir+"/", "./cmd/sallyport-relay", "./cmd/sallyport-agent")
		build.Dir = strings.TrimSpace(string(out))
		if out, err := build.CombinedOutput(); err != nil {
			return "", "", fmt.Errorf("build the programs: %w\n%s", err, out)
		}
	}
	dir, err = filepath.Abs(dir)
	return filepath.Join(dir, "sallyport-relay"), filepath.Join(dir, "sallyport-agent"), err
}

// sallyport sets both programs up by their own commands, as an admin does.
func (s *stage) sallyport(ctx context.Context) (target, error) {
	relay, agent, err := s.binaries(ctx)
	if err != nil {
		return target{}, err
	}
	t, err := s.startRelay(ctx, relay)
	if err != nil {
		return t, err
	}
	var added struct{ Join string }
	if err := s.admin(ctx, relay, &added, "gateway", "add", gatewayName); err != nil {
		return t, err
	}
	address := t.address
	if s.through != nil {
		if address, err = s.through(address); err != nil {
			return t, err
		}
	}
	if err := s.startAgent(ctx, agent, s.url(s.tls, address), added.Join); err != nil {
		return t, err
	}
	return s.publish(ctx, relay, t, "orders")
}

func (s *stage) startRelay(ctx context.Context, relay string) (t target, err error) {
	address, err := freeAddress()
	if err != nil {
		return t, err
	}
	if t, err = s.at(address); err != nil {
		return t, err
	}
	secure := ""
	if s.tls {
		secure = fmt.Sprintf(relayTLS, s.files.Cert, s.files.Key)
	}
	text := fmt.Sprintf(relayYAML, s.url(s.tls, address), address, secure, s.dir)
	if err := os.WriteFile(s.path("relay.yaml"), []byte(text), 0o600); err != nil {
		return t, err
	}
	p, err := start(s.dir, "sallyport-relay", nil, relay, "serve", "--config", s.path("relay.yaml"))
	if err != nil {
		return t, err
	}
	s.processes = append(s.processes, p)
	healthy := work{method: "GET", path: "/_/healthz", answer: -1}
	if err := t.await(ctx, healthy); err != nil {
		return t, fmt.Errorf("start the relay: %w\n%s", err, tail(s.dir, p.name))
	}
	return t, nil
}

func (s *stage) startAgent(ctx context.Context, agent, relayURL, joinString string) error {
	trust := s.agentYAML
	if s.tls {
		trust += fmt.Sprintf("ca: %s\n", s.files.CA)
	}
	apis := fmt.Sprintf(apiYAML, "orders", s.url(false, s.upstream.Address), "none")
	switch {
	case s.auth:
		windows := fmt.Sprintf(`{windows: {as: account, account: '%s', secret: %s, protocol: ntlm}}`, account, passwordName)
		apis += fmt.Sprintf(apiYAML, "signed", s.url(false, s.upstream.Gated), windows)
	case s.kerberos:
		apis = s.lab.apis()
	}
	config := s.path("agent.yaml")
	text := fmt.Sprintf(agentYAML, relayURL, s.dir, trust, apis)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	if s.auth {
		if _, err := command(ctx, s.password+"\n", agent, "secret", "set", passwordName, "--config", config); err != nil {
			return err
		}
	}
	if _, err := command(ctx, joinString+"\n", agent, "join", "--config", config); err != nil {
		return err
	}
	p, err := start(s.dir, "sallyport-agent", nil, agent, "run", "--config", config)
	if err == nil {
		s.processes = append(s.processes, p)
	}
	return err
}

// publish publishes an API for callers with a key and gives what they connect to.
func (s *stage) publish(ctx context.Context, relay string, t target, api string) (target, error) {
	name := gatewayName + "/" + api
	if err := s.admin(ctx, relay, nil, "connector", "publish", name, "--auth", "key"); err != nil {
		return t, err
	}
	var added struct{ Key string }
	if err := s.admin(ctx, relay, &added, "key", "add", name, "--name", "bench"); err != nil {
		return t, err
	}
	t.prefix, t.header = "/"+name, "X-API-Key: "+added.Key+"\r\n"
	return t, nil
}

// admin runs a command of sallyport-relay and decodes its answer into out unless that is nil.
func (s *stage) admin(ctx context.Context, relay string, out any, args ...string) error {
	text, err := command(ctx, "", relay, append(args, "--json", "--config", s.path("relay.yaml"))...)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// command runs a command to its end and gives its standard output; the error has what it said.
func command(ctx context.Context, stdin, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args[:min(2, len(args))], " "), err,
			strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// freeAddress is an address that nobody listens on. The relay must be told its own, which stands in join strings.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
