//go:build linux

package system

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/test/loud"
)

// A lab is the Active Directory that the test runs in (test/lab/ad).
type lab struct {
	state, ca, keytabs, epa string
	accounts                map[string]struct{ Password, UPN string }
}

func openLab(t *testing.T) *lab {
	t.Helper()
	loud.NeedsLab(t)
	l := &lab{state: os.Getenv("ADLAB_STATE"), ca: os.Getenv("ADLAB_CA"), keytabs: os.Getenv("ADLAB_KEYTABS"), epa: os.Getenv("ADLAB_EPA")}
	text, err := os.ReadFile(os.Getenv("ADLAB_ACCOUNTS"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &l.accounts); err != nil {
		t.Fatal(err)
	}
	return l
}

// accessLog is what Apache has logged up to now.
func (l *lab) accessLog(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.state, "log/apache-access.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A labAPI is one API of the lab as the agent is told of it.
type labAPI struct {
	name, url, auth string
	rules           []string
}

// as gives the auth lines of a named account. The password gets into the agent's secret store by the box.
func (l *lab) as(account string) string {
	return fmt.Sprintf(asAccount, account)
}

// byNTLM is the same, without Kerberos.
func (l *lab) byNTLM(account string) string {
	return strings.Replace(l.as(account), "}", ", protocol: ntlm}", 1)
}

func (l *lab) service() string {
	return fmt.Sprintf(asService, filepath.Join(l.keytabs, "svc-gw.keytab"), "svc-gw@CORP.EXAMPLE")
}

// labBox is a box whose agent offers these APIs; the passwords that they name are set, wrong ones by wrong.
func labBox(t *testing.T, l *lab, krb5 string, wrong map[string]string, apis ...labAPI) *box {
	t.Helper()
	b := newBox(t, racy)
	b.extraAgent = "kerberos: {config: " + filepath.Join(l.state, krb5) + "}\n"
	b.startRelay()
	if err := b.join(b.addGateway()); err != nil {
		t.Fatalf("join: %v", err)
	}
	b.configureLab(l, wrong, apis)
	b.startAgent()
	for _, a := range apis {
		b.admin(nil, "connector", "publish", gatewayName+"/"+a.name, "--auth", "none")
	}
	b.awaitAPI(apis[0].name)
	return b
}

// configureLab writes agent.yaml with the lab's APIs and sets the passwords that they name, wrong ones by wrong.
func (b *box) configureLab(l *lab, wrong map[string]string, apis []labAPI) {
	b.t.Helper()
	var entries []string
	for _, a := range apis {
		rules := a.rules
		if rules == nil {
			rules = []string{everything}
		}
		extra := a.auth
		if strings.HasPrefix(a.url, "https:") {
			extra += "tls: {ca: " + l.ca + "}\n"
		}
		entries = append(entries, api(a.name, a.url, extra, rules...))
	}
	b.configure(entries...)
	for account, known := range l.accounts {
		password := known.Password
		if w, ok := wrong[account]; ok {
			password = w
		}
		if strings.Contains(strings.Join(entries, ""), "secret: "+account) {
			b.setSecret(account, password)
		}
	}
}

// setSecret puts a password into the agent's secret store, by standard input.
func (b *box) setSecret(name, value string) {
	b.t.Helper()
	b.secret("the password of "+name, value)
	if _, err := b.command(value+"\n", b.agentEnv, b.bin.agent, "secret", "set", name, "--config", b.path("agent.yaml")); err != nil {
		b.t.Fatalf("sallyport-agent secret set %s: %v", name, err)
	}
}

// whoami is what the lab's servers answer, as fields.
func whoami(t *testing.T, c *http.Client, url string) (int, map[string]string, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	for _, v := range resp.Header.Values("Www-Authenticate") {
		t.Errorf("%s: WWW-Authenticate %.20q reached the caller", url, v)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(body)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[k] = v
	}
	return resp.StatusCode, fields, string(body)
}

const (
	intranet  = "https://intranet.corp.example"
	plain     = "http://intranet.corp.example"
	portal    = "http://portal.corp.example" // no SPN
	legacy    = "https://legacy.corp.example"
	epaServer = "https://epa.corp.example"
)

// TestLabSignOn signs on in every way that works.
func TestLabSignOn(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	apis := []struct {
		labAPI
		user, mech string
	}{
		{labAPI{name: "kerberos-keytab", url: intranet + "/kerb", auth: l.service()}, "svc-gw@CORP.EXAMPLE", "krb5"},
		{labAPI{name: "kerberos-password", url: intranet + "/kerb", auth: l.as("alice")}, "alice@CORP.EXAMPLE", "krb5"},
		{labAPI{name: "kerberos-plain", url: plain + "/kerb", auth: l.as("alice")}, "alice@CORP.EXAMPLE", "krb5"},
		{labAPI{name: "kerberos-rc4", url: legacy + "/kerb", auth: l.as("alice")}, "alice@CORP.EXAMPLE", "krb5"},
		{labAPI{name: "kerberos-groups", url: intranet + "/kerb", auth: l.as("heidi")}, "heidi@CORP.EXAMPLE", "krb5"},
		{labAPI{name: "negotiate", url: intranet + "/negotiate", auth: l.as("alice")}, "alice@CORP.EXAMPLE", "krb5"},
		{labAPI{name: "ntlm", url: intranet + "/ntlm", auth: l.byNTLM("alice")}, "alice", "ntlm"},
		{labAPI{name: "ntlm-samba", url: epaServer + "/ntlm", auth: l.as("bob")}, "bob", "ntlm"},
		{labAPI{name: "fallback", url: portal + "/negotiate", auth: l.as("alice")}, "alice", "ntlm"},
		{labAPI{name: "bound-kerberos", url: epaServer + "/epa-require", auth: l.service()}, "svc-gw@CORP.EXAMPLE", "krb5"},
		{labAPI{name: "bound-password", url: epaServer + "/epa-require", auth: l.as("alice")}, "alice@CORP.EXAMPLE", "krb5"},
	}
	var all []labAPI
	for _, a := range apis {
		all = append(all, a.labAPI)
	}
	b := labBox(t, l, "krb5.conf", nil, all...)
	for _, a := range apis {
		t.Run(a.name, func(t *testing.T) {
			for _, version := range []int{1, 2} {
				code, got, body := whoami(t, b.client(version), b.at(a.name, "/whoami"))
				if code != 200 || !isUser(got["REMOTE_USER"], a.user) {
					t.Fatalf("HTTP/%d: %d, REMOTE_USER %q, want %q: %s", version, code, got["REMOTE_USER"], a.user, body)
				}
				if !mechIs(got["GSS_MECH"], a.mech) {
					t.Errorf("signed on by %q, want %s", got["GSS_MECH"], a.mech)
				}
				if strings.HasPrefix(a.name, "bound") && got["CB"] != "bound" {
					t.Errorf("channel binding %q, want bound", got["CB"])
				}
			}
		})
	}
	b.noSecretsInProcesses()
}

// isUser compares a user as the servers print it: with the realm for Kerberos, with or without the domain for NTLM.
func isUser(got, want string) bool {
	_, short, _ := strings.Cut(got, `\`)
	return strings.EqualFold(got, want) || strings.EqualFold(short, want) || strings.EqualFold(got, want+"@CORP")
}

// mechIs compares the name of a mechanism as Apache and winauthd print it: a name or an object identifier.
func mechIs(got, want string) bool {
	names := map[string][]string{
		"krb5": {"krb5", "1.2.840.113554.1.2.2", "1 2 840 113554 1 2 2"},
		"ntlm": {"ntlm", "1.3.6.1.4.1.311.2.2.10", "1 3 6 1 4 1 311 2 2 10"},
	}[want]
	return slices.ContainsFunc(names, func(n string) bool { return strings.Contains(strings.ToLower(got), n) })
}

// TestLabSignOnWithBodies posts what cannot be repeated: it arrives once and whole, whatever the handshake takes.
func TestLabSignOnWithBodies(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	b := labBox(t, l, "krb5.conf", nil,
		labAPI{name: "kerb", url: intranet + "/kerb", auth: l.service()},
		labAPI{name: "negotiate", url: intranet + "/negotiate", auth: l.as("alice")},
		labAPI{name: "ntlm", url: intranet + "/ntlm", auth: l.byNTLM("alice")})
	for _, name := range []string{"kerb", "negotiate", "ntlm"} {
		for _, size := range []int64{1, 60_000, 5_000_000, 50_000_000} {
			for _, length := range []int64{size, -1} {
				req, _ := http.NewRequestWithContext(t.Context(), "POST", b.at(name, "/whoami"), patternReader(size))
				req.ContentLength = length
				resp, err := b.client(1).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				if body := text(t, resp); resp.StatusCode != 200 || !strings.Contains(body, "BODY_SHA256="+patternDigest(size)) {
					t.Errorf("%s, %d bytes, Content-Length %d: %s, the body did not arrive whole: %.300s", name, size, length, resp.Status, body)
				}
				resp.Body.Close()
			}
		}
	}
}

// TestLabRefusedSignOn: the caller learns that the agent's own credential was refused and nothing else; the agent's log
// says why. The upstream's 401 never becomes the caller's.
func TestLabRefusedSignOn(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	wrongBinding := l.inspect(t)
	noBinding := l.addTLS(t)
	apis := []struct {
		labAPI
		why string // what the agent's log says
	}{
		{labAPI{name: "disabled", url: intranet + "/kerb", auth: l.as("dave")}, "account-blocked"},
		{labAPI{name: "disabled-ntlm", url: intranet + "/ntlm", auth: l.byNTLM("dave")}, "rejected|account-blocked|bad-credential"},
		{labAPI{name: "expired", url: intranet + "/kerb", auth: l.as("grace")}, "account-blocked"},
		{labAPI{name: "must-change", url: intranet + "/kerb", auth: l.as("erin")}, "account-blocked"},
		{labAPI{name: "wrong-password", url: intranet + "/kerb", auth: l.as("carol")}, "bad-credential"},
		{labAPI{name: "wrong-password-ntlm", url: intranet + "/ntlm", auth: l.byNTLM("carol")}, "rejected|bad-credential"},
		{labAPI{name: "unknown-spn", url: portal + "/kerb", auth: l.service()}, "unknown-spn"},
		{labAPI{name: "binding-wrong", url: wrongBinding + "/epa-require", auth: l.as("alice")}, "rejected"},
		{labAPI{name: "binding-wrong-allow", url: wrongBinding + "/epa-allow", auth: l.as("alice")}, "rejected"},
		{labAPI{name: "binding-absent", url: noBinding + "/epa-require", auth: l.as("alice")}, "rejected"},
	}
	var all []labAPI
	for _, a := range apis {
		all = append(all, a.labAPI)
	}
	all = append(all, labAPI{name: "binding-absent-allow", url: noBinding + "/epa-allow", auth: l.as("alice")})
	b := labBox(t, l, "krb5.conf", map[string]string{"carol": "not-the-Passw0rd!"}, all...)
	for _, a := range apis {
		t.Run(a.name, func(t *testing.T) {
			before := len(b.logs["agent"].String())
			resp, err := b.client(1).Get(b.at(a.name, "/whoami"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusBadGateway {
				t.Fatalf("status %d, want 502: %s", resp.StatusCode, text(t, resp))
			}
			p := readProblem(t, resp)
			if p.Error.Code != "upstream-auth" {
				t.Errorf("code %q, want upstream-auth", p.Error.Code)
			}
			eventually(t, 5*time.Second, "the agent's log says "+a.why, func() bool {
				return regexp.MustCompile(a.why).MatchString(b.logs["agent"].String()[before:])
			})
			for _, inside := range []string{"corp.example", "CORP", "alice", "dave", "127.0.0"} {
				if all := fmt.Sprintf("%+v", p); strings.Contains(all, inside) {
					t.Errorf("the problem tells of the inside (%q): %s", inside, all)
				}
			}
		})
	}
	// The same way in, where the server only refuses wrong bindings: proof that the others failed for that reason.
	if code, got, body := whoami(t, b.client(1), b.at("binding-absent-allow", "/x")); code != 200 || got["CB"] != "none" {
		t.Errorf("without a channel binding where none is required: %d, CB=%q: %s", code, got["CB"], body)
	}
}

// inspect is a middlebox that opens TLS with a certificate of its own, which the agent trusts, in front of winauthd: the
// channel binding that the agent computes is not the one that winauthd expects.
func (l *lab) inspect(t *testing.T) string {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(l.state, "tls/other.pem"), filepath.Join(l.state, "tls/other.key"))
	if err != nil {
		t.Fatal(err)
	}
	port := l.relayTo(t, func(raw net.Conn) net.Conn {
		return tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}})
	})
	return "https://epa.corp.example:" + port
}

// addTLS is a middlebox that takes plain HTTP and speaks TLS to winauthd: the agent sees no TLS and sends no binding.
func (l *lab) addTLS(t *testing.T) string {
	t.Helper()
	return "http://epa.corp.example:" + l.relayTo(t, func(raw net.Conn) net.Conn { return raw })
}

// relayTo copies bytes between what wrap makes of incoming connections, and TLS connections to winauthd. It gives the port.
func (l *lab) relayTo(t *testing.T, wrap func(net.Conn) net.Conn) string {
	t.Helper()
	ln, err := net.Listen("tcp", l.epa+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				// The middlebox is not what is tested here; what it reaches is the lab's.
				out, err := tls.Dial("tcp", l.epa+":443", &tls.Config{InsecureSkipVerify: true})
				if err != nil {
					return
				}
				defer out.Close()
				in := wrap(raw)
				go func() {
					io.Copy(out, in)
					out.CloseWrite()
				}()
				io.Copy(in, out)
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// TestLabKDCDown: without a domain controller the caller gets an answer in time, and the log says what is missing.
func TestLabKDCDown(t *testing.T) {
	l := openLab(t)
	b := labBox(t, l, "krb5-dead.conf", nil,
		labAPI{name: "kerb", url: intranet + "/kerb", auth: l.service()})
	start := time.Now()
	resp, err := b.client(1).Get(b.at("kerb", "/whoami"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	want(t, resp, http.StatusBadGateway)
	if p := readProblem(t, resp); p.Executed != "no" || strings.Contains(fmt.Sprintf("%+v", p), "127.0.0") {
		t.Errorf("the problem is %+v, want executed: no and nothing from inside", p)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("the answer took %s", took)
	}
	if said := b.logs["agent"].String(); !strings.Contains(said, "kdc-unreachable") {
		t.Errorf("the agent's log does not say kdc-unreachable:\n%s", said)
	}
}

// TestLabKDCHangs freezes the domain controller while the agent has a ticket: calls go on, and afterwards too.
func TestLabKDCHangs(t *testing.T) {
	l := openLab(t)
	b := labBox(t, l, "krb5.conf", nil, labAPI{name: "kerb", url: intranet + "/kerb", auth: l.service()})
	c := b.client(1)
	if code, _, body := whoami(t, c, b.at("kerb", "/whoami")); code != 200 {
		t.Fatalf("before: %d %s", code, body)
	}
	pid, err := os.ReadFile(filepath.Join(l.state, "pid/samba"))
	if err != nil {
		t.Fatal(err)
	}
	var group int
	fmt.Sscan(string(pid), &group)
	if err := syscall.Kill(-group, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	thaw := sync.OnceFunc(func() { syscall.Kill(-group, syscall.SIGCONT) })
	t.Cleanup(thaw)
	for range 3 {
		if code, _, body := whoami(t, c, b.at("kerb", "/whoami")); code != 200 {
			t.Errorf("with a ticket in hand while the domain controller hangs: %d %s", code, body)
		}
	}
	thaw()
	if code, _, body := whoami(t, c, b.at("kerb", "/whoami")); code != 200 {
		t.Errorf("afterwards: %d %s", code, body)
	}
}

// TestLabManyGroups: a token of 11 kB passes where the server takes it, and where it does not, the answer says so.
func TestLabManyGroups(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	b := labBox(t, l, "krb5.conf", nil,
		labAPI{name: "big", url: intranet + "/kerb", auth: l.as("heidi")},
		labAPI{name: "small", url: legacy + "/kerb", auth: l.as("heidi")})
	code, got, body := whoami(t, b.client(1), b.at("big", "/whoami"))
	var size int
	if m := regexp.MustCompile(`\((\d+) bytes\)`).FindStringSubmatch(got["AUTHORIZATION"]); m != nil {
		fmt.Sscan(m[1], &size)
	}
	if code != 200 || got["REMOTE_USER"] != "heidi@CORP.EXAMPLE" || size < 8190 {
		t.Errorf("heidi: %d, REMOTE_USER %q, a token of %d bytes: %s", code, got["REMOTE_USER"], size, body)
	}
	if code, _, body := whoami(t, b.client(1), b.at("small", "/whoami")); code != 400 && code != 502 {
		t.Errorf("heidi at a server with an 8190-byte limit: %d, want its 400 or a 502: %s", code, body)
	}
}

// TestLabNobodyGetsAnothersIdentity: alice, then bob, then nobody on the same server, then all of them at once.
func TestLabNobodyGetsAnothersIdentity(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	who := map[string]string{} // API -> what REMOTE_USER begins with, in lower case
	var apis []labAPI
	for place, url := range map[string]string{"ntlm": plain + "/ntlm", "neg": plain + "/negotiate", "kerb": plain + "/kerb", "epa": epaServer + "/epa-off", "samba": epaServer + "/ntlm"} {
		for _, user := range []string{"alice", "bob"} {
			apis = append(apis, labAPI{name: place + "-" + user, url: url, auth: l.as(user)})
			who[place+"-"+user] = user
		}
		apis = append(apis, labAPI{name: place + "-nobody", url: url})
		who[place+"-nobody"] = ""
	}
	b := labBox(t, l, "krb5.conf", nil, apis...)
	check := func(c *http.Client, name string) error {
		resp, err := c.Get(b.at(name, "/whoami"))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		m := regexp.MustCompile(`(?m)^REMOTE_USER=(.*)$`).FindStringSubmatch(string(body))
		if who[name] == "" {
			if resp.StatusCode == 200 || m != nil {
				return fmt.Errorf("%s: nobody is answered %s as %q", name, resp.Status, m)
			}
			return nil
		}
		if resp.StatusCode != 200 || m == nil || !strings.Contains(strings.ToLower(m[1]), who[name]) {
			return fmt.Errorf("%s: %s as %q, want %s: %.200s", name, resp.Status, m, who[name], body)
		}
		return nil
	}
	var names []string
	for n := range who {
		names = append(names, n)
	}
	slices.Sort(names) // ...-alice, ...-bob, ...-nobody
	for range 3 {
		c := b.client(1)
		for _, n := range names {
			if err := check(c, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	errs := make(chan error, 32)
	for i := range 32 {
		c := b.client(1 + i%2)
		go func() {
			for j := range 15 {
				if err := check(c, names[(i*7+j)%len(names)]); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 32 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	b.noSecretsInProcesses()
}

// TestLabRefusedTargets: what the policy refuses leaves no trace in Apache's access log.
func TestLabRefusedTargets(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	mark := fmt.Sprintf("m%d", time.Now().UnixNano())
	b := labBox(t, l, "krb5.conf", nil, labAPI{name: "r", url: plain + "/negotiate", auth: l.as("alice"), rules: []string{
		"GET /whoami", "GET /a/**", "GET /api", "GET /api/{id}",
	}})
	c := b.client(1)
	if code, _, body := whoami(t, c, b.at("r", "/whoami")); code != 200 {
		t.Fatalf("the way is not open: %d %s", code, body)
	}
	base := "/" + gatewayName + "/r"
	for _, target := range refusedTargets {
		if len(target) > 10_000 || target == "" || target == "/" {
			continue
		}
		sep := "?"
		if strings.Contains(target, "?") {
			sep = "&"
		}
		answer := b.raw("GET " + base + target + sep + mark + " HTTP/1.1\r\nHost: " + hostName + "\r\n\r\n")
		if !refused(answer) {
			t.Errorf("%.100q was answered %.200q", target, answer)
		}
	}
	if code, _, body := whoami(t, c, b.at("r", "/whoami?"+mark+"-good")); code != 200 {
		t.Fatalf("afterwards: %d %s", code, body)
	}
	eventually(t, 5*time.Second, "the good call is in Apache's access log", func() bool {
		return strings.Contains(l.accessLog(t), mark+"-good")
	})
	for line := range strings.Lines(l.accessLog(t)) {
		if strings.Contains(line, mark) && !strings.Contains(line, mark+"-good") {
			t.Errorf("a refused target reached Apache: %s", line)
		}
	}
}
