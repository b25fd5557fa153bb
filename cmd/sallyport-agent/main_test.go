package main

import (
	"archive/zip"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sallyport/tunnel"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sallyport-agent": main,
		"joinable-relay":  joinableRelay,
	})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireUniqueNames: true, RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"mode": mode, "unpack": unpack},
	})
}

// mode checks a file's permissions: mode 0600 FILE.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode 0600 FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// unpack writes the files of a zip archive into a directory: unpack ARCHIVE DIRECTORY.
func unpack(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: unpack ARCHIVE DIRECTORY")
	}
	z, err := zip.OpenReader(ts.MkAbs(args[0]))
	ts.Check(err)
	defer z.Close()
	ts.Check(os.CopyFS(ts.MkAbs(args[1]), z))
}

// joinableRelay is the relay's side of joining, as a program: it writes a join string to the file join.txt and admits
// whoever proves its code, until it is told to end. At /api, whose URL is in the file api.txt, is an API that wants the user
// joe and the password tr0ub4dor&3.
func joinableRelay() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	code := tunnel.NewCode()
	expected := tunnel.JoinKey(code).Public().(ed25519.PublicKey)
	mux := http.NewServeMux()
	mux.HandleFunc("/_/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	for _, path := range []string{"/api", "/api/"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "joe" || password != "tr0ub4dor&3" {
				w.Header().Set("WWW-Authenticate", `Basic realm="api"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
		})
	}
	mux.HandleFunc(tunnel.Path, func(w http.ResponseWriter, r *http.Request) {
		ws, err := tunnel.NewUpgrader().Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		_, _, _ = tunnel.Greet(r.Context(), ws, tunnel.RelayIdentity{Key: key, Node: "n1"},
			func(_ context.Context, c tunnel.Claim) (tunnel.Welcome, error) {
				if c.Kind != tunnel.KindCheck && !expected.Equal(ed25519.PublicKey(c.CodeKey)) {
					return tunnel.Welcome{}, &tunnel.Refusal{Code: "unknown-code", Reason: "this code was never given out", Permanent: true}
				}
				return tunnel.Welcome{Agent: "a-" + tunnel.Fingerprint(c.Key)[7:15]}, nil
			})
	})
	server := httptest.NewServer(mux)
	if err := os.WriteFile("api.txt", []byte(server.URL+"/api"), 0o600); err != nil {
		panic(err)
	}
	j := tunnel.JoinString{Relay: server.URL, RelayKey: tunnel.Fingerprint(public), Gateway: "plant1", Code: code}
	wrong, other := j, j
	wrong.Code = tunnel.NewCode()
	other.RelayKey = "sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for name, s := range map[string]tunnel.JoinString{"wrong-code.txt": wrong, "wrong-relay.txt": other, "code.txt": {Code: code}, "join.txt": j} {
		text := s.Encode()
		if name == "code.txt" {
			text = code
		}
		if err := os.WriteFile(name+".new", []byte(text+"\n"), 0o600); err != nil {
			panic(err)
		}
	}
	for _, name := range []string{"wrong-code.txt", "wrong-relay.txt", "code.txt", "join.txt"} { // join.txt comes last
		if err := os.Rename(name+".new", name); err != nil {
			panic(err)
		}
	}
	<-ctx.Done()
	server.Close()
}
