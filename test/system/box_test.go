//go:build linux

package system

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// gatewayName is the gateway of every box.
const gatewayName = "plant1"

// hostName is the relay's public name; callers and agents dial loopback for it.
const hostName = "localhost"

// A box is one relay and one agent, or more, in a directory of its own.
type box struct {
	t    *testing.T
	bin  binaries
	dir  string
	addr string // the relay's public address, 127.0.0.1:port
	url  string
	cas  *x509.CertPool

	relay, agent *process
	logs         map[string]*transcript // by process name; a restarted process goes on with its transcript
	commands     *transcript            // all that the commands have printed on standard error
	secrets      map[string]string      // what may stand nowhere: what it is -> its text
	extraRelay   string                 // more lines for relay.yaml
	extraAgent   string                 // more lines for agent.yaml
	relayURL     string                 // the relay's URL for the agent; "" is url
	agentEnv     []string
	relayEnv     []string
}

// newBox makes the directory, the CA and the relay's configuration; it starts nothing.
func newBox(t *testing.T, bin binaries) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "box") // short: a unix socket's path ends at 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	b := &box{
		t: t, bin: bin, dir: dir, addr: fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		logs: map[string]*transcript{"relay": {}, "agent": {}}, commands: &transcript{}, secrets: map[string]string{},
	}
	b.url = "https://" + strings.Replace(b.addr, "127.0.0.1", hostName, 1)
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Cleanup(b.examine)
	b.cas = makeCA(t, dir, hostName, "orders.example.com")
	return b
}

// ports hands out each port once. They lie below those that the kernel gives to outgoing connections.
var ports atomic.Int32

func freePort(t *testing.T) int {
	t.Helper()
	for range 2000 {
		port := 20000 + (os.Getpid()*37+int(ports.Add(1)))%12000
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// examine runs after the processes have ended: it shows what a failed test needs and looks for secrets and faults.
func (b *box) examine() {
	for name, log := range b.logs {
		text := log.String()
		if b.t.Failed() {
			b.t.Logf("--- %s printed:\n%s", name, tail(text, 20_000))
		}
		for _, fault := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: ", "goroutine 1 ["} {
			if strings.Contains(text, fault) {
				b.t.Errorf("%s printed %q:\n%s", name, fault, around(text, fault))
			}
		}
	}
	b.noSecrets()
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// around gives the text that follows the first place of word.
func around(text, word string) string {
	i := strings.Index(text, word)
	return text[max(0, i-500):min(len(text), i+3000)]
}

// noSecrets looks for every secret that was used in all that was printed and in every file of the relay and the agent.
// The agent's secret store is where secrets belong.
func (b *box) noSecrets() {
	b.t.Helper()
	look := func(where, text string) {
		for what, secret := range b.secrets {
			if strings.Contains(text, secret) {
				b.t.Errorf("%s stands in %s", what, where)
			}
		}
	}
	for name, log := range b.logs {
		look("what "+name+" printed", log.String())
	}
	look("what the commands printed on standard error", b.commands.String())
	filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.Contains(path, "/secrets") {
			return nil
		}
		text, _ := os.ReadFile(path)
		rel, _ := filepath.Rel(b.dir, path)
		look("the file "+rel, string(text))
		return nil
	})
}

// noSecretsInProcesses looks at what any user of the machine can see of the running processes.
func (b *box) noSecretsInProcesses() {
	b.t.Helper()
	for _, p := range []*process{b.relay, b.agent} {
		for what, secret := range b.secrets {
			if strings.Contains(p.argv(), secret) || strings.Contains(p.environ(), secret) {
				b.t.Errorf("%s stands in the arguments or the environment of %s", what, p.name)
			}
		}
	}
}

// secret notes a text that may stand nowhere from now on.
func (b *box) secret(what, text string) string {
	if len(text) >= 6 {
		b.secrets[what] = text
	}
	return text
}

// --- the relay -----------------------------------------------------------------------------------------------------

func (b *box) path(name string) string { return filepath.Join(b.dir, name) }

// startRelay starts the relay, or starts it again, and waits until it says that it is ready.
func (b *box) startRelay() {
	b.t.Helper()
	write(b.t, b.path("relay.yaml"), []byte(fmt.Sprintf(relayYAML, b.url, b.addr, b.dir)+b.extraRelay))
	b.relay = start(b.t, "relay", b.logs["relay"], b.relayEnv, b.bin.relay, "serve", "--config", b.path("relay.yaml"))
	b.awaitRelay()
}

func (b *box) awaitRelay() {
	b.t.Helper()
	client := b.client(1)
	eventually(b.t, 20*time.Second, "the relay is ready", func() bool {
		if !b.relay.running() {
			b.t.Fatal("the relay has ended at its start")
		}
		resp, err := client.Get(b.url + "/_/healthz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// admin runs a command of sallyport-relay, with --json, and decodes its answer into out unless that is nil.
func (b *box) admin(out any, args ...string) {
	b.t.Helper()
	text, err := b.tryAdmin(append(args, "--json")...)
	if err != nil {
		b.t.Fatalf("sallyport-relay %s: %v", strings.Join(args, " "), err)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			b.t.Fatalf("sallyport-relay %s --json: %v in %q", strings.Join(args, " "), err, text)
		}
	}
}

func (b *box) tryAdmin(args ...string) ([]byte, error) {
	return b.command("", nil, b.bin.relay, append(args, "--config", b.path("relay.yaml"))...)
}

// command runs a command to its end and gives its standard output; the error has what it said.
func (b *box) command(stdin string, env []string, argv0 string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv0, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	b.commands.Write(stderr.Bytes())
	if err != nil {
		return out, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// --- the agent -------------------------------------------------------------------------------------------------------

// addGateway makes the gateway and gives its join string.
func (b *box) addGateway() string {
	b.t.Helper()
	var added struct {
		JoinString string `json:"join"`
	}
	b.admin(&added, "gateway", "add", gatewayName)
	if added.JoinString == "" {
		b.t.Fatal("gateway add gave no join string")
	}
	return b.secret("the join string", added.JoinString)
}

// join makes the agent a member; the join string goes by standard input.
func (b *box) join(joinString string) error {
	if _, err := os.Stat(b.path("agent.yaml")); err != nil {
		b.configure()
	}
	_, err := b.command(joinString+"\n", b.agentEnv, b.bin.agent, "join", "--config", b.path("agent.yaml"))
	return err
}

// configure writes agent.yaml with these APIs; a running agent reads it again.
func (b *box) configure(apis ...string) {
	b.t.Helper()
	list := "apis: []\n"
	if len(apis) > 0 {
		list = "apis:\n" + strings.Join(apis, "")
	}
	b.replaceConfig(fmt.Sprintf(agentYAML, cmp.Or(b.relayURL, b.url), gatewayName, b.dir) + b.extraAgent + list)
}

// replaceConfig puts a file in the place of agent.yaml at once, as editors do.
func (b *box) replaceConfig(text string) {
	b.t.Helper()
	write(b.t, b.path("agent.yaml.new"), []byte(text))
	if err := os.Rename(b.path("agent.yaml.new"), b.path("agent.yaml")); err != nil {
		b.t.Fatal(err)
	}
}

// api is one entry of agent.yaml; extra are more lines of it, and rules what it allows. Without auth it is "none".
func api(name, url, extra string, rules ...string) string {
	s := fmt.Sprintf("  - name: %s\n    url: %s\n", name, url)
	if !strings.Contains(extra, "auth:") {
		extra = asNobody + extra
	}
	for line := range strings.Lines(extra) {
		s += "    " + strings.TrimRight(line, "\n") + "\n"
	}
	s += "    allow:\n"
	for _, r := range rules {
		s += fmt.Sprintf("      - %q\n", r)
	}
	return s
}

// everything is the allow-list of an API that is tested for something else.
const everything = "GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS /**"

// startAgent starts the agent, or starts it again.
func (b *box) startAgent() {
	b.t.Helper()
	b.agent = start(b.t, "agent", b.logs["agent"], b.agentEnv, b.bin.agent, "run", "--config", b.path("agent.yaml"))
}

// publish publishes an API that needs no key, and waits until callers reach it.
func (b *box) publish(name string) {
	b.t.Helper()
	b.admin(nil, "connector", "publish", gatewayName+"/"+name, "--auth", "none")
	b.awaitAPI(name)
}

// publishWithKey publishes an API and gives a key for it.
func (b *box) publishWithKey(name string) string {
	b.t.Helper()
	b.admin(nil, "connector", "publish", gatewayName+"/"+name, "--auth", "key")
	return b.addKey(name, "first")
}

func (b *box) addKey(api, name string) string {
	b.t.Helper()
	var added struct {
		Key string `json:"key"`
	}
	b.admin(&added, "key", "add", gatewayName+"/"+api, "--name", name)
	if !strings.HasPrefix(added.Key, "sp_") {
		b.t.Fatal("key add gave no key that begins with sp_")
	}
	return b.secret("the key "+name+" of "+api, added.Key)
}

// awaitAPI waits until a link of an agent that offers the API is up: no problem of the relay's own is answered.
func (b *box) awaitAPI(name string) {
	b.t.Helper()
	client := b.client(1)
	var last string
	defer func() {
		if b.t.Failed() {
			b.t.Logf("the last answer of %s: %s", name, last)
		}
	}()
	eventually(b.t, 30*time.Second, "the API "+name+" can be called", func() bool {
		resp, err := client.Get(b.url + "/" + gatewayName + "/" + name + "/x/status/204")
		if err != nil {
			last = err.Error()
			return false
		}
		defer resp.Body.Close()
		var p problem
		json.NewDecoder(resp.Body).Decode(&p) // an upstream's answer is no problem, and leaves it empty
		last = resp.Status
		return p.Origin != "relay"
	})
}

// ready is a box with a relay, a joined agent and these APIs published without a key. It is what most tests begin with.
func ready(t *testing.T, bin binaries, names []string, apis ...string) *box {
	t.Helper()
	b := newBox(t, bin)
	b.startRelay()
	if err := b.join(b.addGateway()); err != nil {
		t.Fatalf("sallyport-agent join: %v", err)
	}
	b.configure(apis...)
	b.startAgent()
	for _, n := range names {
		b.publish(n)
	}
	return b
}

// --- callers ----------------------------------------------------------------------------------------------------------

// client is a caller that speaks HTTP/1.1 or HTTP/2, with connections of its own.
func (b *box) client(version int) *http.Client {
	tr := &http.Transport{
		TLSClientConfig:       &tls.Config{RootCAs: b.cas, ServerName: hostName},
		DialContext:           b.dial,
		ResponseHeaderTimeout: time.Minute,
		DisableCompression:    true,
		Protocols:             new(http.Protocols),
	}
	tr.Protocols.SetHTTP1(version == 1)
	tr.Protocols.SetHTTP2(version == 2)
	b.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dial reaches the relay, whatever name the caller has for it.
func (b *box) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", b.addr)
}

// dialTLS is a connection to the relay for callers that write their own bytes.
func (b *box) dialTLS(protocol string) *tls.Conn {
	b.t.Helper()
	raw, err := b.dial(b.t.Context(), "", "")
	if err != nil {
		b.t.Fatal(err)
	}
	c := tls.Client(raw, &tls.Config{RootCAs: b.cas, ServerName: hostName, NextProtos: []string{protocol}})
	if err := c.HandshakeContext(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// at is the public address of a path of an API.
func (b *box) at(api, path string) string { return b.url + "/" + gatewayName + "/" + api + path }

// A problem is what callers get instead of an upstream's answer (RFC 9457).
type problem struct {
	Type, Title, Detail, RequestID, Origin, Executed string
	Status                                           int
	Error                                            struct{ Code, Message string }
}

// readProblem reads one, and checks what is true of each.
func readProblem(t *testing.T, resp *http.Response) problem {
	t.Helper()
	var p problem
	if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("status %d has Content-Type %q, want application/problem+json", resp.StatusCode, ct)
	}
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatalf("read the problem: %v", err)
	}
	if p.Status != resp.StatusCode {
		t.Errorf("the problem says status %d, the response has %d", p.Status, resp.StatusCode)
	}
	if p.RequestID == "" || p.RequestID != resp.Header.Get("X-Request-Id") {
		t.Errorf("the problem's request ID is %q, the response's %q", p.RequestID, resp.Header.Get("X-Request-Id"))
	}
	if p.Error.Code == "" || p.Error.Message == "" {
		t.Errorf("the problem has no error code and message for Power Platform: %+v", p)
	}
	return p
}
