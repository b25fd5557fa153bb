package relay

import (
	"bytes"
	"flag"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/configs"
	"sallyport/configs/schema"
)

var update = flag.Bool("update", false, "write configs/relay.schema.json")

func TestLoad(t *testing.T) {
	t.Parallel()
	c, err := Load("relay.yaml", []byte("public_url: https://Relay.example.com/\nlisten: :8443\nlimits: {body: 2GB}\ntimeouts: {answer: 100s}\naccess_log: {to: \"off\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		PublicURL: "https://Relay.example.com/", Listen: ":8443", Limits: Limits{Body: 2e9}, Timeouts: Timeouts{Answer: 100 * time.Second},
		AccessLog: AccessLog{To: "off"},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	if _, err := Load("relay.yaml", nil); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

func TestLoadReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Load("relay.yaml", []byte(`listen: nonsense
public_url: https://relay.example.com/base
trusted_proxies: [10.0.0.0/8, 10.0.0.300]
limits: {header: 1KiB, calls: -1}
timeouts: {power_platform: 130s}
log: {level: loud}
tls: {cert: a}
colour: red
`))
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.Split(err.Error(), "\n")
	for i, want := range []string{
		"relay.yaml:1:9: ", "relay.yaml:2:13: ", "relay.yaml:3:31: ", "relay.yaml:4:18: ", "relay.yaml:4:31: ", "relay.yaml:5:28: ", "relay.yaml:6:14: ", "relay.yaml:7:6: ", "relay.yaml:8:1: ",
	} {
		if i >= len(got) || !strings.HasPrefix(got[i], want) {
			t.Errorf("error %d should be at %s\n%v", i, want, err)
		}
	}
	for _, url := range []string{"https://relay.example.com/base", "relay.example.com", "ftp://x", "https://u@x", "https://x?y", "https://"} {
		if _, err := parsePublicURL(url); err == nil {
			t.Errorf("%s is taken for a relay's URL", url)
		}
	}
	for _, listen := range []string{":443", "0.0.0.0:443", "relay.example.com:443", "[::]:443"} {
		if _, err := Load("relay.yaml", []byte("listen: \""+listen+"\"")); err == nil || !strings.Contains(err.Error(), "public_url is missing") {
			t.Errorf("listen %s without public_url: %v", listen, err)
		}
	}
}

func TestRecordSettingsAreChecked(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"access_log: {keep: 1m}":                              "relay.yaml:1:20: 1m0s is too short",
		"admin_log: {keep: 1m}":                               "relay.yaml:1:19: 1m0s is too short",
		"admin_log: {keep_size: 1kB}":                         "relay.yaml:1:24: 1kB is too little",
		"syslog: {ca: x}":                                     "to is missing",
		"syslog: {to: siem.example.com}":                      "is no address of a collector",
		"syslog: {to: \"siem.example.com:0\"}":                "is no address of a collector",
		"syslog: {to: \"siem.example.com:6514\", cert: x}":    "cert and key belong together",
		"syslog: {to: \"s.example.com:6514\", events: [all]}": "\"all\" is not one of access, admin",
	} {
		if _, err := Load("relay.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
	if _, err := Load("relay.yaml", []byte("syslog: {to: \"[2001:db8::1]:6514\", events: [admin]}")); err != nil {
		t.Error(err)
	}
}

// FuzzLoad: a file gives a configuration or an error with a place, never a panic.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile("../configs/relay.example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte("listen: [\ntrusted_proxies: {a: 1}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Load("relay.yaml", data)
		if err != nil {
			if _, ok := err.(configs.Errors); !ok {
				t.Errorf("an error without a place: %v", err)
			}
			return
		}
		if _, err := c.trusted(); err != nil {
			t.Errorf("checked, and yet: %v", err)
		}
	})
}

// TestSchema keeps configs/relay.schema.json that of Config: go test ./relay -run Schema -update
func TestSchema(t *testing.T) {
	comments, err := schema.ReadComments(".", "../configs")
	if err != nil {
		t.Fatal(err)
	}
	want, err := schema.Generate("relay.yaml", reflect.TypeFor[Config](), comments)
	if err != nil {
		t.Fatal(err)
	}
	const file = "../configs/relay.schema.json"
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not that of Config:\n%s", file, cmp.Diff(string(want), string(got)))
	}
}

// The example that the program prints is the one in configs.
func TestExampleIsTheSameInBothPlaces(t *testing.T) {
	t.Parallel()
	a, err := os.ReadFile("../configs/relay.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("../cmd/sallyport-relay/relay.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("configs/relay.example.yaml and cmd/sallyport-relay/relay.example.yaml differ: copy one to the other")
	}
}

func TestPublicURLWithoutSuchAHostOrPort(t *testing.T) {
	t.Parallel()
	const port = "no such port"
	for url, want := range map[string]string{
		"https://r.example.com:0": port, "https://r.example.com:70000": port, "https://relé.example.com": "xn--",
		"https://r.example.com:8443": "", "https://[::1]:8443": "", "https://xn--rel-dma.example.com": "",
	} {
		_, err := Load("relay.yaml", []byte("public_url: "+url+"\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestListenSaysWhatToDo(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, hint := range map[string]string{taken.Addr().String(): "another program has this port", "192.0.2.1:0": "this machine has no such address"} {
		_, err := net.Listen("tcp", address)
		if err == nil || !strings.Contains(listenHint(err), hint) {
			t.Errorf("%s: %v%s", address, err, listenHint(err))
		}
	}
}
