package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sallyport/relay/admin"
	"sallyport/tunnel"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sallyport-relay": main})
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready":  ready,
			"answer": answer,
			"mode":   mode,
			"take":   take,
			"join":   join,
			"kept":   kept,
			"relink": relink,
			"cut":    cut,
			"garble": garble,
		},
	})
}

// setup gives each script a free port and a relay.yaml that uses it.
func setup(e *testscript.Env) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	e.Setenv("ADDR", addr)
	e.Values[joinedAgents{}] = map[string]joined{}
	e.Setenv("SALLYPORT_RELAY_SOCKET", "")
	config := fmt.Sprintf("listen: %s\ndata: %s\naccess_log:\n  to: off\n", addr, filepath.Join(e.WorkDir, "data"))
	return os.WriteFile(filepath.Join(e.WorkDir, "relay.yaml"), []byte(config), 0o600)
}

// ready waits until the script's relay answers.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: ready")
	}
	for range 600 {
		if status, err := get(ts.Getenv("ADDR"), "/_/readyz", ""); err == nil && status == http.StatusOK {
			return
		}
		time.Sleep(50 * time.Millisecond) // another process is waited for
	}
	ts.Fatalf("the relay is not ready after 30 s")
}

// answer STATUS PATH [KEY] demands the status of a call.
func answer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: answer STATUS PATH [KEY]")
	}
	key := ""
	if len(args) == 3 {
		key = args[2]
	}
	status, err := get(ts.Getenv("ADDR"), args[1], key)
	ts.Check(err)
	if fmt.Sprint(status) != args[0] {
		ts.Fatalf("%s is answered %d, want %s", args[1], status, args[0])
	}
}

func get(addr, path, key string) (status int, err error) {
	q, err := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return 0, err
	}
	if key != "" {
		q.Header.Set("X-API-Key", key)
	}
	client := http.Client{Timeout: 30 * time.Second} // a relay that has just started waits for its agents
	resp, err := client.Do(q)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// kept N waits until the script's relay has N calls on record.
func kept(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: kept N")
	}
	c := admin.NewClient(ts.MkAbs("data/admin.sock"))
	found := 0
	for range 600 {
		found = 0
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := c.Log(ctx, admin.LogQuery{}, func([]byte) error { found++; return nil })
		cancel()
		ts.Check(err)
		if fmt.Sprint(found) == args[0] {
			return
		}
		time.Sleep(50 * time.Millisecond) // another process is waited for
	}
	ts.Fatalf("%d calls are on record, want %s", found, args[0])
}

// mode PERMISSIONS FILE demands a file's permissions.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode PERMISSIONS FILE")
	}
	info, err := os.Lstat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has the mode %s, want %s", args[1], got, args[0])
	}
}

// cut FROM TO copies a file without its last line.
func cut(ts *testscript.TestScript, neg bool, args []string) {
	change(ts, neg, args, func(text []byte) []byte {
		return text[:bytes.LastIndexByte(text[:len(text)-1], '\n')+1]
	})
}

// garble FROM TO copies a file with a digit of its middle changed for another.
func garble(ts *testscript.TestScript, neg bool, args []string) {
	change(ts, neg, args, func(text []byte) []byte {
		for i := len(text) / 2; ; i++ {
			if text[i] >= 'a' && text[i] < 'z' {
				text[i]++
				return text
			}
		}
	})
}

func change(ts *testscript.TestScript, neg bool, args []string, how func([]byte) []byte) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: FROM TO")
	}
	text, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), how(text), 0o600))
}

// joinedAgents is the key of what join has made, by ID.
type joinedAgents struct{}

// An agent that join has made, and what it needs to link again.
type joined struct {
	key      ed25519.PrivateKey
	relayKey string
	gateway  string
}

// relink ID has an agent that has joined before link again.
func relink(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: relink ID")
	}
	a, ok := ts.Value(joinedAgents{}).(map[string]joined)[args[0]]
	if !ok {
		ts.Fatalf("no agent %s has joined", args[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ws, _, err := tunnel.NewDialer().DialContext(ctx, "ws://"+ts.Getenv("ADDR")+tunnel.Path, nil)
	ts.Check(err)
	defer ws.Close()
	welcome, err := tunnel.Introduce(ctx, ws, tunnel.AgentIdentity{
		Claim: tunnel.Claim{Kind: tunnel.KindLink, Gateway: a.gateway, Agent: args[0], Name: "host-a", Instance: "again", Generation: 1}, Key: a.key,
	}, a.relayKey)
	ts.Check(err)
	if welcome.Agent != args[0] {
		ts.Fatalf("the relay welcomes %s, want %s", welcome.Agent, args[0])
	}
}

// join VARIABLE JOIN-STRING joins an agent and puts its ID into a variable.
func join(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: join VARIABLE JOIN-STRING")
	}
	j, err := tunnel.ParseJoinString(args[1])
	ts.Check(err)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ws, _, err := tunnel.NewDialer().DialContext(ctx, "ws://"+ts.Getenv("ADDR")+tunnel.Path, nil)
	ts.Check(err)
	defer ws.Close()
	welcome, err := tunnel.Introduce(ctx, ws, tunnel.AgentIdentity{
		Claim: tunnel.Claim{Kind: tunnel.KindJoin, Gateway: j.Gateway, Name: "host-a"}, Key: key, CodeKey: tunnel.JoinKey(j.Code),
	}, j.RelayKey)
	ts.Check(err)
	ts.Setenv(args[0], welcome.Agent)
	ts.Value(joinedAgents{}).(map[string]joined)[welcome.Agent] = joined{key, j.RelayKey, j.Gateway}
}

// take VARIABLE MEMBER puts a member of the JSON object on standard output into a variable.
func take(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: take VARIABLE MEMBER")
	}
	var object map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &object))
	text, ok := object[args[1]].(string)
	if !ok || text == "" {
		ts.Fatalf("standard output has no text %s", args[1])
	}
	ts.Setenv(args[0], text)
}
