package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/agent/state"
	"sallyport/tunnel"
)

func relayKey() (ed25519.PrivateKey, string) {
	key, fingerprint := testKey("relay")
	return key().(ed25519.PrivateKey), fingerprint
}

// anchored writes a record in two processes, whose seals, records 5 and 10, the relay has signed.
func anchored(t *testing.T, dir state.Dir) []tunnel.AuditReceipt {
	t.Helper()
	relay, _ := relayKey()
	kept, err := OpenReceipts(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []tunnel.AuditReceipt
	for range 2 {
		var last Head
		recorded(t, dir, Options{Sealed: func(h Head) { last = h }}, 3)
		one := tunnel.SignAuditReceipt(relay, tunnel.AuditReceipt{Gateway: "plant1", Agent: "a1", N: last.N, Hash: last.Hash, Time: time.Now()})
		if err := kept.Add(one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// Whoever has the agent's key can write a record that is whole in itself; the relay's receipts find it.
func TestReceiptsFindARewrittenRecord(t *testing.T) {
	t.Parallel()
	own, fingerprint := testKey("agent")
	_, pinned := relayKey()
	for name, c := range map[string]struct {
		alter    func(lines [][]byte) [][]byte
		n        uint64
		what     string
		anchored uint64
	}{
		"untouched":     {func(l [][]byte) [][]byte { return l }, 0, "", 10},
		"edited":        {func(l [][]byte) [][]byte { l[7] = bytes.Replace(l[7], []byte("r1"), []byte("r9"), 1); return l }, 8, "altered", 5},
		"written anew":  {func(l [][]byte) [][]byte { return rechain(t, l, own()) }, 5, "not the record for which the relay gave a receipt", 0},
		"tail cut":      {func(l [][]byte) [][]byte { return l[:5] }, 6, "records up to 10 are missing at the end", 5},
		"all cut":       {func([][]byte) [][]byte { return nil }, 1, "records up to 10 are missing at the end", 0},
		"a record more": {func(l [][]byte) [][]byte { return append(l, []byte(`{"v":2,"n":11`)) }, 0, "", 10}, // torn by a crash
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := stateDir(t)
			receipts := anchored(t, dir)
			path := dir.Path("audit/audit.jsonl")
			lines := bytes.SplitAfter(read(t, path), []byte("\n"))
			lines = c.alter(lines[:len(lines)-1])
			write(t, path, bytes.Join(lines, nil))
			// The copy of the last seal goes with it, as whoever writes all anew would have it.
			if head := dir.Path("audit/" + headFile); c.n > 0 && len(lines) > 0 {
				write(t, head, lines[len(lines)-1])
			} else if c.n > 0 {
				if err := os.Remove(head); err != nil {
					t.Fatal(err)
				}
			}
			for from, w := range map[string]Witness{"beside": {Relay: pinned}, "of the relay": {Relay: pinned, Receipts: receipts}} {
				rep, err := Verify(t.Context(), dir, []string{fingerprint}, w)
				if err != nil {
					t.Fatal(err)
				}
				if f := rep.Fault; (f == nil) != (c.n == 0) || f != nil && (f.N != c.n || !strings.Contains(f.What, c.what)) {
					t.Errorf("%s: %+v, want record %d: %s", from, f, c.n, c.what)
				}
				if rep.Anchored != c.anchored || c.n == 0 && rep.Unanchored != 0 {
					t.Errorf("%s: %+v, want it anchored up to %d", from, rep, c.anchored)
				}
			}
		})
	}
}

// With record, key and receipts exchanged, only what the relay itself gives out proves anything, and that does.
func TestReceiptsOfTheRelayItself(t *testing.T) {
	t.Parallel()
	dir, forged := stateDir(t), stateDir(t)
	receipts := anchored(t, dir)
	_, pinned := relayKey()
	stranger, fingerprint := testKey("stranger")
	recorded(t, forged, Options{Key: stranger}, 20)
	judge := func(w Witness) *Report {
		rep, err := Verify(t.Context(), forged, []string{fingerprint}, w)
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	if rep := judge(Witness{Relay: pinned}); rep.Fault != nil || rep.Anchored != 0 || rep.Unanchored != rep.Last {
		t.Errorf("without receipts: %+v, want nothing anchored", rep)
	}
	if rep := judge(Witness{Relay: pinned, Receipts: receipts}); rep.Fault == nil || rep.Fault.N != 5 {
		t.Errorf("with the relay's: %+v, want record 5 to be another", rep.Fault)
	}
	_, other := testKey("another relay")
	if rep := judge(Witness{Relay: other, Receipts: receipts}); rep.Fault == nil {
		t.Error("receipts of another relay than the pinned one are no fault")
	}
	altered := receipts[1]
	altered.N++
	if rep := judge(Witness{Relay: pinned, Receipts: []tunnel.AuditReceipt{altered}}); rep.Fault == nil || !strings.Contains(rep.Fault.What, "signature") {
		t.Errorf("an altered receipt: %+v", rep.Fault)
	}
}

// The file of receipts is bounded, goes on behind a line that a crash cut off, and keeps those of other relays out of the proof.
func TestReceiptsAreKept(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	anchored(t, dir)
	path := dir.Path("audit/" + receiptsFile)
	write(t, path, append(read(t, path), `{"gateway":"pl`...))
	kept, err := OpenReceipts(dir)
	if err != nil {
		t.Fatal(err)
	}
	relay, pinned := relayKey()
	at := time.Now()
	for n := range mostReceipts + 10 {
		one := tunnel.AuditReceipt{Gateway: "plant1", N: uint64(100 + n), Hash: fmt.Sprintf("%042dA", n), Time: at.Add(time.Duration(n) * time.Hour)}
		if err := kept.Add(tunnel.SignAuditReceipt(relay, one)); err != nil {
			t.Fatal(err)
		}
	}
	sub, err := dir.Sub(subdirectory)
	if err != nil {
		t.Fatal(err)
	}
	all, err := readReceipts(sub)
	if err != nil || len(all) > newest+mostDays+20 || len(all) < newest || all[len(all)-1].N != 100+mostReceipts+9 || all[0].N > 130 {
		t.Errorf("%d receipts are kept, %v", len(all), err)
	}
	for _, one := range all {
		if err := one.Check(pinned); err != nil {
			t.Fatalf("%+v: %v", one, err)
		}
	}
	_, fingerprint := testKey("agent")
	_, other := testKey("another relay")
	if rep, err := Verify(t.Context(), dir, []string{fingerprint}, Witness{Relay: other}); err != nil || rep.Fault != nil || rep.Foreign != len(all) || rep.Anchored != 0 {
		t.Errorf("after the agent has joined another relay: %+v, %v", rep, err)
	}
}

func FuzzParseReceipts(f *testing.F) {
	relay, pinned := relayKey()
	one := tunnel.SignAuditReceipt(relay, tunnel.AuditReceipt{Gateway: "plant1", Agent: "a1", N: 5, Hash: strings.Repeat("A", 43), Time: time.Unix(1, 0)})
	text, err := json.MarshalIndent([]tunnel.AuditReceipt{one}, "", "  ")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("null"))
	f.Add([]byte(`[{"n":1,"relay":"AAAA"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := ParseReceipts(data)
		if err == nil && all == nil {
			t.Error("no receipts are none of the relay's, not those beside the record")
		}
		for _, r := range all {
			if r.Check(pinned) == nil && (r.N != one.N || r.Hash != one.Hash || r.Agent != one.Agent || r.Gateway != one.Gateway) {
				t.Errorf("a forged receipt counts: %+v", r)
			}
		}
	})
}
