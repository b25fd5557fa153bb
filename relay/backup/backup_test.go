package backup_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/relay/backup"
	"sallyport/relay/store"
)

var quiet = slog.New(slog.DiscardHandler)

func signingKey(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// sample is a backup of a store with two buckets, one of which has lost a key.
func sample(t testing.TB) []byte {
	t.Helper()
	ctx := context.Background()
	st, err := store.Open(ctx, store.Config{Dir: t.TempDir(), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close(ctx)
	for bucket, records := range map[string][]string{"gateways": {"plant1", "plant2"}, "connectors": {"plant1/orders", "plant1/gone"}} {
		b, err := st.Bucket(ctx, bucket)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range records {
			revision, err := b.Create(ctx, key, []byte(`{"of":"`+key+`"}`))
			if err != nil {
				t.Fatal(err)
			}
			if key == "plant1/gone" {
				if err := b.Delete(ctx, key, revision); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	var out bytes.Buffer
	h := backup.Header{Made: time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC), Relay: "https://relay.example", Program: "1.2.3"}
	if err := backup.Write(ctx, &out, h, signingKey(t), st.Dump); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRestoreGivesBackEverything(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	text := sample(t)
	h, records, err := backup.Verify(bytes.NewReader(text))
	if err != nil || records != 3 || h.Relay != "https://relay.example" || h.Program != "1.2.3" {
		t.Fatalf("%+v, %d records, %v", h, records, err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	if err := backup.Restore(ctx, bytes.NewReader(text), dir, quiet); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "relay.key"))
	if err != nil || !bytes.Equal(key, signingKey(t)) {
		t.Errorf("the key: %q, %v", key, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("the folder holds %v", entries)
	}
	st, err := store.Open(ctx, store.Config{Dir: filepath.Join(dir, "store"), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close(ctx)
	var got []string
	err = st.Dump(ctx, func(bucket, key string, value []byte) error {
		got = append(got, bucket+" "+key+" "+string(value))
		return nil
	})
	want := `connectors plant1/orders {"of":"plant1/orders"}|gateways plant1 {"of":"plant1"}|gateways plant2 {"of":"plant2"}`
	if err != nil || strings.Join(got, "|") != want {
		t.Errorf("restored %q, %v", got, err)
	}
	if err := backup.Restore(ctx, bytes.NewReader(text), dir, quiet); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a folder that is not empty: %v", err)
	}
}

// TestDamageIsFound: a byte that is another, a byte that is missing, an end that is cut, and nothing is written for any of them.
func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	text := sample(t)
	bad := map[string][]byte{"empty": nil, "twice": append(bytes.Clone(text), text...), "more behind it": append(bytes.Clone(text), '\n')}
	lines := bytes.SplitAfter(text, []byte("\n"))
	bad["without its key"] = bytes.Join(append([][]byte{lines[0]}, lines[2:]...), nil)
	bad["of another version"] = bytes.Replace(text, []byte(`"version":1`), []byte(`"version":2`), 1)
	for i := range text {
		if bytes.IndexByte([]byte(" \n"), text[i]) < 0 {
			other := bytes.Clone(text)
			other[i] ^= 1
			bad["byte changed at "+string(text[max(0, i-20):i+1])] = other
		}
		bad["cut after "+string(text[max(0, i-20):i+1])] = text[:i]
	}
	for what, text := range bad {
		if _, _, err := backup.Verify(bytes.NewReader(text)); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "data")
	if err := backup.Restore(t.Context(), bytes.NewReader(bad["without its key"]), dir, quiet); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("restored: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a damaged backup has left a folder")
	}
}

// TestRestoreThatFailsLeavesNothing: two records of one key pass every check of the file, and none of the store.
func TestRestoreThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	err := backup.Write(t.Context(), &text, backup.Header{}, signingKey(t), func(_ context.Context, fn func(string, string, []byte) error) error {
		return errors.Join(fn("gateways", "plant1", []byte("{}")), fn("gateways", "plant1", []byte("{}")))
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := backup.Restore(t.Context(), bytes.NewReader(text.Bytes()), dir, quiet); !errors.Is(err, store.ErrExists) {
		t.Errorf("restored: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// FuzzVerify: a file of strangers is refused or read, and nothing else.
func FuzzVerify(f *testing.F) {
	text := sample(f)
	f.Add(text)
	f.Add(text[:len(text)/2])
	f.Add([]byte(`{"format":"sallyport-relay-backup","version":1}` + "\n" + `{"end":{"lines":1,"sha256":""}}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, _, err := backup.Verify(bytes.NewReader(text)); err != nil && !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("%v", err)
		}
	})
}
