package identity

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/agent/state"
	"sallyport/tunnel"
)

const pinned = "sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func saved(t *testing.T) (state.Dir, *Identity) {
	t.Helper()
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := New("https://relay.example.com", pinned, "plant1")
	if err != nil {
		t.Fatal(err)
	}
	id.Agent, id.Joined = "a1", true
	if err := id.Save(dir); err != nil {
		t.Fatal(err)
	}
	return dir, id
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	dir, id := saved(t)
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !got.key.Equal(id.key) || got.Gateway != "plant1" || got.Relay != id.Relay || got.RelayKey != pinned ||
		got.Agent != "a1" || !got.Joined || !got.Created.Equal(id.Created) {
		t.Errorf("loaded %v, saved %v", got, id)
	}
	info, err := os.Stat(dir.Path(fileName))
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %04o, want 0600", mode)
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	_, id := saved(t)
	who, err := id.Claim(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if who.Claim.Kind != tunnel.KindLink || who.Claim.Agent != "a1" || who.Claim.Gateway != "plant1" || who.CodeKey != nil {
		t.Errorf("claim %+v", who.Claim)
	}
	if !who.Key.Public().(ed25519.PublicKey).Equal(id.key.Public()) {
		t.Error("the claim is signed by another key")
	}
	join := id.JoinClaim("ABC")
	if join.Claim.Kind != tunnel.KindJoin || join.Claim.Agent != "" || !join.CodeKey.Equal(tunnel.JoinKey("ABC")) {
		t.Errorf("join claim %+v", join.Claim)
	}
}

func TestLoadWithoutIdentity(t *testing.T) {
	t.Parallel()
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "sallyport-agent join") {
		t.Errorf("Load = %v, want ErrNone and what to do", err)
	}
}

func TestLoadRefusesExposedFile(t *testing.T) {
	t.Parallel()
	dir, _ := saved(t)
	if err := os.Chmod(dir.Path(fileName), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); !errors.Is(err, state.ErrExposed) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Load = %v, want ErrExposed and the chmod", err)
	}
}

// Every way of cutting or changing the file is found, is not quoted, and leaves the file as it was.
func TestLoadRefusesDamagedFile(t *testing.T) {
	t.Parallel()
	dir, id := saved(t)
	whole, err := os.ReadFile(dir.Path(fileName))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(key string, value any) []byte {
		var m map[string]any
		if err := json.Unmarshal(whole, &m); err != nil {
			t.Fatal(err)
		}
		m[key] = value
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	seed := base64.StdEncoding.EncodeToString(id.key.Seed())
	cases := map[string][]byte{
		"empty":         {},
		"zeros":         make([]byte, 400),
		"half":          whole[:len(whole)/2],
		"two":           append(bytes.Clone(whole), whole...),
		"version":       edit("v", 9),
		"algorithm":     edit("alg", "rsa"),
		"no relay key":  edit("relay_key", ""),
		"no gateway":    edit("gateway", ""),
		"no ID":         edit("agent", ""),
		"short key":     edit("seed", "AAAA"),
		"other key":     edit("seed", make([]byte, 32)),
		"other public":  edit("public", pinned),
		"joined a word": edit("joined", "yes"),
	}
	for name, data := range cases {
		if err := os.WriteFile(dir.Path(fileName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(dir)
		if err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: Load = %v, want an error that says damaged", name, err)
		} else if strings.Contains(err.Error(), seed) {
			t.Errorf("%s: the error quotes the key", name)
		}
		if after, err := os.ReadFile(dir.Path(fileName)); err != nil || !bytes.Equal(after, data) {
			t.Errorf("%s: Load changed the file (%v)", name, err)
		}
	}
}

func TestSetAsideKeepsTheOldKey(t *testing.T) {
	t.Parallel()
	dir, id := saved(t)
	path, err := SetAside(dir, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	if want := dir.Path("identity.20260102T030405Z.json"); path != want {
		t.Errorf("set aside as %s, want %s", path, want)
	}
	if _, err := Load(dir); !errors.Is(err, ErrNone) {
		t.Errorf("Load afterwards: %v, want ErrNone", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if old, err := parse(data); err != nil || !old.key.Equal(id.key) {
		t.Errorf("the file set aside: %v, %v", old, err)
	}
}

func TestKeyIsNeverPrinted(t *testing.T) {
	t.Parallel()
	_, id := saved(t)
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	log.Info("x", "identity", id)
	log.Info("x", "identity", *id)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		fmt.Fprintf(&out, verb+"\n", id)
	}
	seed := id.key.Seed()
	for _, form := range []string{
		base64.StdEncoding.EncodeToString(seed), hex.EncodeToString(seed), fmt.Sprint([]byte(seed)),
		base64.StdEncoding.EncodeToString(id.key), string(seed),
	} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the key was printed:\n%s", out.String())
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"v":1,"relay":"https://r","relay_key":"sha256:x","gateway":"g","alg":"ed25519","public":"p","seed":"AAAA"}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"v":1}{"v":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := parse(data)
		if (id == nil) == (err == nil) {
			t.Fatalf("identity %v and error %v", id, err)
		}
		if id != nil && (id.Gateway == "" || len(id.key) != ed25519.PrivateKeySize) {
			t.Fatalf("an unusable identity: %v", id)
		}
	})
}
