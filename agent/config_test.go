package agent

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const minimal = "relay: https://relay.example.com\ngateway: plant1\n"

func TestExample(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../configs/agent.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig("agent.example.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("the example has warnings: %q", c.Warnings)
	}
	orders := c.APIs[0]
	if orders.Auth.Windows.As != "service" || orders.Limits.Body != 100e6 || orders.Limits.Timeout != 230*time.Second || orders.Address().Host != "erp.corp.example" {
		t.Errorf("got %+v", orders)
	}
	if !orders.Policy().Decide("PATCH", "/orders/4711").Allowed || orders.Policy().Decide("DELETE", "/orders/4711").Allowed {
		t.Error("the rules of the example do not decide as they read")
	}
}

func TestParseConfig(t *testing.T) {
	t.Parallel()
	c, err := ParseConfig("agent.yaml", []byte(`relay: http://[::1]:8080
gateway: plant1
links: 3
state: /var/lib/x
log: {level: debug, format: json}
proxy: http://user:pa55@proxy.corp.example:8080
ca: /etc/ca.pem
drain_timeout: 45s
kerberos: {config: /etc/krb5-corp.conf}
apis:
  - name: a
    url: http://127.0.0.1:81/base
    auth: passthrough
    allow: ['* /x', 'GET /y']
    idle_timeout: 1h
    link_hosts: ['erp.corp.example:8080']
    headers: {allow_method_override: [x-http-method]}
  - name: b
    url: https://b.corp.example
    auth: {windows: {as: account, account: svc@corp.example, keytab: /k, spn: HTTP/pool, protocol: kerberos, channel_binding: require, mutual: true}}
    tls: {pin: sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=, cert: /c, key: /k, min_version: '1.3', renegotiate: once}
    allow: [GET /]
`))
	if err != nil {
		t.Fatal(err)
	}
	a, b := c.APIs[0], c.APIs[1]
	if c.Relay != "http://[::1]:8080" || c.Links != 3 || c.Log != (Log{"debug", "json"}) || c.DrainTimeout != 45*time.Second || c.Kerberos.Config != "/etc/krb5-corp.conf" {
		t.Errorf("got %+v", c)
	}
	if a.Auth.Word != AuthPassthrough || a.IdleTimeout != time.Hour || a.Address().String() != "http://127.0.0.1:81/base" {
		t.Errorf("got %+v", a)
	}
	want := &Windows{As: "account", Account: "svc@corp.example", Keytab: "/k", SPN: "HTTP/pool", Protocol: "kerberos", ChannelBinding: "require", Mutual: true}
	if diff := cmp.Diff(want, b.Auth.Windows); diff != "" {
		t.Error(diff)
	}
}

// Each fault is named at its place, with what to do; the list shows that one run finds all of them.
func TestParseConfigErrors(t *testing.T) {
	t.Parallel()
	const file = `relay: http://relay.example.com/x
gateway: Plant_1
links: 17
proxy: sytem
log: {level: trace}
apis:
  - name: Orders!
    url: ftp://erp/
    auth: {windows: {as: caller}}
    allow:
      - GET /orders/**
      - GET orders
      - PUT /a/*
  - name: b
    url: https://user:pa55w0rd@b/
    auth: {basic: {user: 'a:b', secret: 'My Pa55!'}, bearer: {secret: t}}
  - name: b
    url: http://b/?x
    auth: pa55w0rd
    tls: {ca: x}
  - name: c
    url: http://c
    auth: {}
    tls: {server_name: x, cert: y, pin: sha256/AA}
    limits: {concurrent: -1, timeout: 5ms}
    idle_timeout: 1ms
    headers: {allow_method_override: [X-Foo]}
    link_hosts: ['http://x']
  - name: d
    url: https://d#x
    auth: {windows: {as: service, account: x, keytab: k, ccache: c, protocol: ntlm, spn: nospn}}
  - name: e
    url: https://e
    auth: {windows: {as: account, account: '\x', ccache: c}}
  - name: f
    url: https://f
    auth: {windows: {as: account, secret: s, keytab: k}}
  - name: g
    url: https:///x
    auth: {header: {name: 'X Y', secret: s}}
  - url: https://h
    auth: {windows: {as: user}}
`
	_, err := ParseConfig("agent.yaml", []byte(file))
	if err == nil {
		t.Fatal("no error")
	}
	if strings.Contains(strings.ToLower(err.Error()), "pa55") {
		t.Errorf("a secret stands in the error:\n%v", err)
	}
	want := `agent.yaml:1:8: relay: a path does not belong here
agent.yaml:2:10: gateway "Plant_1" is no name
agent.yaml:3:8: links must be 1 to 16
agent.yaml:4:8: proxy: "sytem" is not
agent.yaml:5:14: "trace" is not known here
agent.yaml:7:11: API name "Orders!" is no name
agent.yaml:8:10: url: must begin with https:// or http://
agent.yaml:9:26: as: caller needs callers at the top of the file: whose tokens prove who calls (add callers with an issuer and an audience)
agent.yaml:12:9: rule "GET orders", column 5: the path must begin with "/"
agent.yaml:13:9: rule "PUT /a/*", column 8: "*" has no meaning here
agent.yaml:15:10: url: a user name or password does not belong in a URL
agent.yaml:16:11: more than one way to sign on
agent.yaml:16:26: user must not be empty or contain ":"
agent.yaml:16:41: secret is the name of a secret, not its value
agent.yaml:17:11: a second API named "b"
agent.yaml:18:10: url: a query does not belong here
agent.yaml:19:11: auth is not known
agent.yaml:23:11: auth is empty
agent.yaml:24:10: tls has no meaning for a plain http url
agent.yaml:24:10: cert and key belong together
agent.yaml:24:41: pin must be sha256/
agent.yaml:24:41: pin takes the place of ca and server_name
agent.yaml:25:26: concurrent must be 1 to 10000
agent.yaml:25:39: a timeout of 5ms is too short
agent.yaml:26:19: an idle timeout of 1ms ends every stream
agent.yaml:27:39: "X-Foo" is not removed from requests
agent.yaml:28:18: "http://x" is not a host
agent.yaml:30:10: url: a fragment does not belong here
agent.yaml:31:44: account has no meaning with as: service
agent.yaml:31:66: keytab and ccache are two sources
agent.yaml:31:79: mutual, keytab, ccache and spn are for Kerberos
agent.yaml:31:90: "nospn" is not a service principal name
agent.yaml:34:21: secret is missing
agent.yaml:34:44: "\\x" is not an account
agent.yaml:34:58: ccache has no meaning with as: account
agent.yaml:37:21: account is missing
agent.yaml:37:54: secret and keytab are two sources
agent.yaml:39:10: url: no host
agent.yaml:40:27: "X Y" is not the name of a header field
agent.yaml:41:5: name is missing
agent.yaml:42:26: as: "user" is not known`
	compareLines(t, want, err.Error())
}

// compareLines wants each line to begin as wanted: the mend that follows in brackets may be worded freely.
func compareLines(t *testing.T, want, got string) {
	t.Helper()
	var begins []string
	wants := strings.Split(want, "\n")
	for i, line := range strings.Split(got, "\n") {
		if i < len(wants) && strings.HasPrefix(line, wants[i]) {
			line = wants[i]
		}
		begins = append(begins, line)
	}
	if diff := cmp.Diff(wants, begins); diff != "" {
		t.Error(diff)
	}
}

// A zero reads like "none" or "without end", and would be the default.
func TestZerosAreNoSettings(t *testing.T) {
	t.Parallel()
	const file = `relay: https://relay.example.com
gateway: plant1
links: 0
drain_timeout: 0s
apis:
  - name: a
    url: http://a
    auth: none
    idle_timeout: 0s
    limits: {body: 0, timeout: 0s, concurrent: 0}
    allow: [GET /x]
`
	_, err := ParseConfig("agent.yaml", []byte(file))
	if err == nil {
		t.Fatal("no error")
	}
	compareLines(t, `agent.yaml:3:8: links must not be 0
agent.yaml:4:16: drain_timeout must not be 0
agent.yaml:9:19: idle_timeout must not be 0
agent.yaml:10:20: body must not be 0
agent.yaml:10:32: timeout must not be 0
agent.yaml:10:48: concurrent must not be 0`, err.Error())
}

func TestWarnsOfAFileThatOthersMayWrite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	for mode, warns := range map[os.FileMode]bool{0o600: false, 0o644: false, 0o664: true, 0o646: true} {
		if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		c, err := ReadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(strings.Join(c.Warnings, "\n"), "other accounts may write it"); got != (warns && runtime.GOOS != "windows") {
			t.Errorf("mode %v: %q", mode, c.Warnings)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	c, err := ParseConfig("agent.yaml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	compareLines(t, "agent.yaml:1:1: no APIs: nothing can be called", strings.Join(c.Warnings, "\n"))

	c, err = ParseConfig("agent.yaml", []byte(minimal+"proxy: http://joe:pa55@proxy.corp.example:8080\n"))
	if err != nil || len(c.Warnings) != 2 || !strings.Contains(c.Warnings[0], "a password stands in this file") || strings.Contains(c.Warnings[0], "pa55") {
		t.Errorf("%q, %v", c.Warnings, err)
	}

	c, err = ParseConfig("agent.yaml", []byte(minimal+`apis:
  - name: a
    url: http://a.corp.example
    auth: none
    allow:
      - GET /x/**
      - POST /odata/**
  - name: b
    url: http://b.corp.example
    auth: {bearer: {secret: t}}
    headers: {allow_method_override: [X_HTTP_METHOD]}
  - name: c
    url: https://c.corp.example
    auth: {basic: {user: u, secret: t}}
    tls: {min_version: '1.0'}
    allow: ['POST /$batch']
`))
	if err != nil {
		t.Fatal(err)
	}
	compareLines(t, `agent.yaml:9:9: rule "POST /odata/**" also admits OData's $batch
agent.yaml:8:7: API a is called without a credential (auth: none) and its rules admit writing
agent.yaml:12:11: the credential for API b crosses the network in the clear
agent.yaml:10:5: API b allows nothing
agent.yaml:13:39: X_HTTP_METHOD lets callers replace the method
agent.yaml:17:24: TLS 1.0 has known weaknesses
agent.yaml:18:13: rule "POST /$batch" also admits OData's $batch`, strings.Join(c.Warnings, "\n"))
}

func TestHowLongTheRecordIsKept(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{keep: 90d, keep_size: 256MiB}": "", "{keep: 1d}": "", "{keep: 1h}": "keep must be at least 24h", "{keep_size: 1MiB}": "at least 16MiB",
		"{keep: 0s}": "audit.keep", "{keep: -3d}": "is not a duration",
	} {
		c, err := ParseConfig("agent.yaml", []byte(minimal+"audit: "+text+"\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), strings.TrimPrefix(want, "audit.")) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if text == "{keep: 90d, keep_size: 256MiB}" && (c.Audit.Keep != 90*24*time.Hour || c.Audit.KeepSize != 256<<20) {
			t.Errorf("%s: %+v", text, c.Audit)
		}
	}
}

func TestRelayAddress(t *testing.T) {
	t.Parallel()
	for url, ok := range map[string]bool{
		"https://relay.example.com": true, "https://relay.example.com:8443/": true, "http://localhost:8080": true, "http://127.0.0.9": true,
		"http://relay.example.com": false, "http://localhost.example.com": false, "relay.example.com": false, "wss://relay.example.com": false,
		"https://u@relay.example.com": false, "https://relay.example.com?": false, "https://relay.example.com#": false, "https:relay.example.com": false, "''": false, "https://": false,
	} {
		if _, err := ParseConfig("agent.yaml", []byte("relay: "+url+"\ngateway: g\n")); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestConditionErrors: each fault of a rule with conditions and of callers is named with its place.
func TestConditionErrors(t *testing.T) {
	t.Parallel()
	_, err := ParseConfig("agent.yaml", []byte(minimal+`apis:
  - name: a
    url: http://a.corp.example
    auth: none
    allow:
      - {rule: GET /a, who: [anna], between: "Mo 07:00-19:00 UTC"}
      - rule: GET /b
        query: {required: {x: []}, other: allow}
        content_type: []
      - {who: person}
      - GET /c?d=e
callers: {audience: x}
`))
	for _, want := range []string{
		`agent.yaml:8:30: who[0]: "anna" is no principal`, `agent.yaml:8:46: between[0]: "Mo" are no days`, `agent.yaml:10:`,
		`unknown key "other" (did you mean "others"?)`, `agent.yaml:11:23: content_type is empty`, `rule is missing`,
		`agent.yaml:13:9: rule "GET /c?d=e"`, `agent.yaml:14:10: callers: who issues the tokens is missing`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
	c, err := ParseConfig("agent.yaml", []byte(minimal+"apis:\n  - {name: a, url: 'http://a.corp.example', auth: none, allow: [{rule: GET /a, who: person}, GET /**]}\n"))
	if err == nil || !strings.Contains(err.Error(), "who needs callers") {
		t.Errorf("%v, %+v", err, c)
	}
}

func TestHostsAndPortsThatThereAreNot(t *testing.T) {
	t.Parallel()
	for relay, want := range map[string]string{
		"relay.example.com:0": "no such port", "relay.example.com:65536": "no such port", "relé.example.com": "xn--",
		"relay.example.com:443": "", "relay.example.com": "", "relay.example.com/": "", "xn--rel-dma.example.com": "", "relay_1.example.com": "", "[2001:db8::1]:443": "",
	} {
		_, err := ParseConfig("agent.yaml", []byte("relay: 'https://"+relay+"'\ngateway: plant1\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", relay, err)
		}
	}
}

func TestStateNamedInABrokenFile(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"relay: [\nstate: '/srv/a b'  # here\r\n\tx\n": "/srv/a b",
		"apis:\n  - state: /no\n":                      "",
		"state: [\nstate: /srv/x\n":                    "/srv/x",
		"nonsense: 1\n":                                "",
	} {
		file := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := StateNamedIn(file); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := StateNamedIn(filepath.Join(t.TempDir(), "none")); got != "" {
		t.Errorf("no file: %q", got)
	}
}
