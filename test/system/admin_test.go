//go:build linux

package system

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/test/oidc"
)

// adminName is the admin API's host in this test; it is in the box's certificate.
const adminName = "orders.example.com"

// An issuer signs people on by device code, and automation by a client's secret.
type issuer struct {
	*oidc.Issuer
	life    time.Duration
	polls   atomic.Int32
	refresh atomic.Int32
}

func newIssuer(b *box, life time.Duration) *issuer {
	b.t.Helper()
	i := &issuer{life: life}
	i.Issuer = issuerOf(b, oidc.Options{Token: i.token, Device: i.device})
	return i
}

func (i *issuer) device(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, `{"device_code":"d1","user_code":"ABCD-EFGH","verification_uri":"%s/activate","expires_in":600,"interval":1}`, i.URL)
}

func (i *issuer) token(w http.ResponseWriter, q *http.Request) {
	refuse := func(code string) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":%q}`, code)
	}
	user, password, _ := q.BasicAuth()
	switch q.PostFormValue("grant_type") {
	case "urn:ietf:params:oauth:grant-type:device_code":
		if i.polls.Add(1) < 2 {
			refuse("authorization_pending") // the person is still typing
			return
		}
		i.give(w, "person-1", "Ada", "Sallyport.Admin", "refresh-me")
	case "refresh_token":
		if q.PostFormValue("refresh_token") != "refresh-me" {
			refuse("invalid_grant")
			return
		}
		i.refresh.Add(1)
		i.give(w, "person-1", "Ada", "Sallyport.Admin", "")
	case "client_credentials":
		if user != "robot" || password != "s3cret-of-the-robot" || strings.Contains(q.PostFormValue("scope"), "offline_access") {
			refuse("invalid_client")
			return
		}
		i.give(w, "robot", "", "Sallyport.Plant1", "")
	default:
		refuse("unsupported_grant_type")
	}
}

func (i *issuer) give(w io.Writer, subject, name, role, refresh string) {
	fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":%d,"access_token":%q,"refresh_token":%q}`, int(i.life.Seconds()), i.Token(oidc.Claims{
		"aud": "admin-api", "sub": subject, "name": name, "roles": []string{role}, "exp": time.Now().Add(i.life).Unix(),
	}), refresh)
}

// wayTo is a proxy that leads every CONNECT to one address, so that commands reach a name that no resolver knows.
func wayTo(t *testing.T, address string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		out, err := net.Dial("tcp", address)
		if err != nil || q.Method != http.MethodConnect {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		in, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			out.Close()
			return
		}
		go func() {
			io.Copy(out, buffered)
			out.Close()
		}()
		io.Copy(in, out)
		in.Close()
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestAdminOverHTTPS: a person signs on by device code, automation by a client's secret; roles decide; the admin API's host
// serves no connector and no agent, and other hosts serve no admin API.
func TestAdminOverHTTPS(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := newBox(t, racy)
	i := newIssuer(b, 5*time.Second)
	b.extraRelay = fmt.Sprintf("admin:\n  host: %s\n  oidc:\n    issuer: %s\n    audience: [admin-api]\n    client: cli\n"+
		"    scopes: [admin-api/.default, offline_access]\n    roles:\n      - {value: Sallyport.Admin, role: admin}\n"+
		"      - {value: Sallyport.Plant1, role: publisher, gateways: [%s]}\n", adminName, i.URL, gatewayName)
	b.relayEnv = []string{"SSL_CERT_FILE=" + b.path("ca.pem")}
	b.startRelay()
	if err := b.join(b.addGateway()); err != nil {
		t.Fatal(err)
	}
	b.configure(api("web", u.url, "", everything))
	b.startAgent()
	b.publish("web")

	base := "https://" + adminName
	login := b.path("login")
	env := []string{"SSL_CERT_FILE=" + b.path("ca.pem"), "HTTPS_PROXY=" + wayTo(t, b.addr), "SALLYPORT_CONFIG_DIR=" + login}
	run := func(extra []string, args ...string) (string, error) {
		out, err := b.command("", append(env, extra...), b.bin.relay, args...)
		return string(out), err
	}
	if _, err := run(nil, "--relay", base, "status"); err == nil || !strings.Contains(err.Error(), "login "+base) {
		t.Errorf("before the sign-on: %v", err)
	}
	if out, err := run(nil, "login", base); err != nil || !strings.Contains(out, "oidc:person-1 (Ada), role admin") {
		t.Fatalf("login: %v\n%s", err, out)
	}
	if said := b.commands.String(); !strings.Contains(said, "ABCD-EFGH") || !strings.Contains(said, i.URL+"/activate") {
		t.Errorf("login does not say where to sign on and with which code: %s", said)
	}
	files, err := filepath.Glob(login + "/*")
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: %v, %v", info.Mode(), err)
	}
	if out, err := run(nil, "--relay", base, "gateway", "add", "plant2"); err != nil || !strings.Contains(out, "spjoin1.") {
		t.Errorf("gateway add: %v\n%s", err, out)
	}
	time.Sleep(i.life) // the token's, which the command has to notice
	if _, err := run(nil, "--relay", base, "agent", "list"); err != nil || i.refresh.Load() == 0 {
		t.Errorf("after the token has ended: %v, renewed %d times", err, i.refresh.Load())
	}

	secret := b.path("secrets-of-robot")
	write(t, secret, []byte("s3cret-of-the-robot\n"))
	robot := []string{"SALLYPORT_CLIENT_ID=robot", "SALLYPORT_CLIENT_SECRET_FILE=" + secret}
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := run(robot, "--relay", base, "whoami"); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a secret that others can read: %v", err)
	}
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(robot, "--relay", base, "whoami"); err != nil || !strings.Contains(out, "oidc:robot, role publisher of "+gatewayName) {
		t.Errorf("automation: %v\n%s", err, out)
	}
	if _, err := run(robot, "--relay", base, "key", "add", gatewayName+"/web", "--name", "k"); err == nil {
		t.Error("a key for a connector without keys")
	} else if strings.Contains(err.Error(), "role") {
		t.Errorf("the publisher is refused its own gateway: %v", err)
	}
	if _, err := run(robot, "--relay", base, "agent", "list"); err != nil {
		t.Errorf("the publisher looks: %v", err)
	}
	if _, err := run(robot, "--relay", base, "gateway", "add", "plant3"); err == nil || !strings.Contains(err.Error(), "it takes the role admin") {
		t.Errorf("the publisher adds a gateway: %v", err)
	}
	if log := b.logs["relay"].String(); !strings.Contains(log, `actor="oidc:person-1 (Ada)"`) || !strings.Contains(log, "admin: refused") {
		t.Error("the relay's log does not say who did what")
	}

	c := b.client(1)
	for _, q := range []struct {
		host, path string
		want       int
	}{
		{adminName, "/v1/login", 200},
		{adminName, "/" + gatewayName + "/web/x/status/204", 401},
		{adminName, "/_/link", 401},
		{hostName, "/v1/login", 404},
		{hostName, "/" + gatewayName + "/web/x/status/204", 204},
	} {
		req, err := http.NewRequest(http.MethodGet, b.url+q.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = q.host
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != q.want {
			t.Errorf("%s%s is answered %s, want %d", q.host, q.path, resp.Status, q.want)
		}
	}
	if _, err := run(nil, "logout", base); err != nil {
		t.Error(err)
	}
	if files, _ := filepath.Glob(login + "/*"); len(files) != 0 {
		t.Errorf("after logout: %v", files)
	}
}
