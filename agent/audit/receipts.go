package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"sallyport/agent/state"
	"sallyport/tunnel"
)

const (
	receiptsFile = "receipts.jsonl"
	// mostReceipts is how many the file may have before it is thinned out: to the newest, and one of each day before.
	mostReceipts = 2000
	newest       = 1000
	mostDays     = 400
	// maxReceipt bounds one, maxReceipts a file of them, in bytes.
	maxReceipt  = 2 << 10
	maxReceipts = 8 << 20
)

// A Head is the record's newest seal: its number, its hash as it is in the line, and when it was made.
type Head struct {
	N    uint64
	Hash string
	Time time.Time
}

// Receipts are what the relay has signed for this record, kept beside it. It is for one goroutine.
type Receipts struct {
	dir  state.Dir
	kept int // lines in the file, about
}

// OpenReceipts opens the receipts in the agent's state directory.
func OpenReceipts(dir state.Dir) (*Receipts, error) {
	sub, err := dir.Sub(subdirectory)
	if err != nil {
		return nil, fmt.Errorf("open the receipts of the audit record: %w", err)
	}
	all, err := readReceipts(sub)
	return &Receipts{dir: sub, kept: len(all)}, err
}

// Add keeps a receipt. One that a crash cuts off is none: the relay has it still, and the next one says as much.
func (r *Receipts) Add(one tunnel.AuditReceipt) error {
	if r.kept >= mostReceipts {
		return r.thin(one)
	}
	line, err := json.Marshal(one)
	if err != nil {
		return fmt.Errorf("encode a receipt: %w", err)
	}
	f, err := os.OpenFile(r.dir.Path(receiptsFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("keep a receipt: %w", err)
	}
	// The line feed before it ends what a crash may have cut off.
	_, err = f.Write(slices.Concat([]byte("\n"), line, []byte("\n")))
	if err = errors.Join(err, r.dir.Adopt(f), f.Close()); err != nil {
		return fmt.Errorf("keep a receipt: %w", err)
	}
	r.kept++
	return nil
}

// thin writes the file anew with fewer, and one more.
func (r *Receipts) thin(one tunnel.AuditReceipt) error {
	all, err := readReceipts(r.dir)
	if err != nil {
		return err
	}
	all = append(thinned(all), one)
	var text bytes.Buffer
	for _, one := range all {
		line, err := json.Marshal(one)
		if err != nil {
			return fmt.Errorf("encode a receipt: %w", err)
		}
		text.Write(append(line, '\n'))
	}
	if err := r.dir.Write(receiptsFile, text.Bytes()); err != nil {
		return fmt.Errorf("keep a receipt: %w", err)
	}
	r.kept = len(all)
	return nil
}

// thinned are the newest receipts, and the last one of each day before.
func thinned(all []tunnel.AuditReceipt) []tunnel.AuditReceipt {
	first := max(0, len(all)-newest)
	var days []tunnel.AuditReceipt
	for _, one := range all[:first] {
		day := one.Time.UTC().Truncate(24 * time.Hour)
		if n := len(days); n > 0 && days[n-1].Time.UTC().Truncate(24*time.Hour).Equal(day) {
			days[n-1] = one
		} else {
			days = append(days, one)
		}
	}
	return append(days[max(0, len(days)-mostDays):], all[first:]...)
}

// readReceipts reads the file. Lines that are no receipts are what crashes leave: whoever could write them could take them out
// as well.
func readReceipts(dir state.Dir) (all []tunnel.AuditReceipt, err error) {
	data, err := dir.Read(receiptsFile, maxReceipts)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read the receipts of the audit record: %w", err)
	}
	for line := range bytes.Lines(data) {
		var one tunnel.AuditReceipt
		if len(line) <= maxReceipt && json.Unmarshal(line, &one) == nil {
			all = append(all, one)
		}
	}
	return all, nil
}

// ParseReceipts reads what 'sallyport-relay agent receipts ID --json' has printed.
func ParseReceipts(data []byte) ([]tunnel.AuditReceipt, error) {
	if len(data) > maxReceipts {
		return nil, fmt.Errorf("there are more than %d bytes of receipts", maxReceipts)
	}
	all := []tunnel.AuditReceipt{}
	if err := json.Unmarshal(data, &all); err != nil || all == nil {
		return nil, fmt.Errorf("these are no receipts (write what 'sallyport-relay agent receipts ID --json' prints into the file): %v", err)
	}
	return all, nil
}

// A Witness is what the relay has signed, and which relay it has to be.
type Witness struct {
	// Relay is the fingerprint of the relay's signing key.
	Relay string
	// Receipts are those that the relay gave out just now, nil for those beside the record. Of those beside it, ones of another
	// relay that the agent had before are passed over; among the relay's own none may be.
	Receipts []tunnel.AuditReceipt
}

// anchors are what a walker compares the record with.
type anchors struct {
	byN   map[uint64]tunnel.AuditReceipt
	last  *tunnel.AuditReceipt
	alien int // of other relays
}

// check takes the receipts that count.
func (w Witness) check(dir state.Dir) (a anchors, fault *Fault, err error) {
	a.byN = map[uint64]tunnel.AuditReceipt{}
	all, own := w.Receipts, w.Receipts == nil
	if own {
		if all, err = readReceipts(dir); err != nil {
			return a, nil, err
		}
	}
	for _, one := range all {
		err := one.Check(w.Relay)
		switch {
		case own && errors.Is(err, tunnel.ErrOtherRelay):
			a.alien++
			continue
		case err != nil && fault == nil:
			fault = &Fault{File: "receipts", N: one.N, What: fmt.Sprintf("the receipt does not count: %v", err)}
		}
		if err != nil {
			continue
		}
		if a.byN[one.N] = one; a.last == nil || one.N > a.last.N {
			a.last = &one
		}
	}
	return a, fault, nil
}

// against says what is wrong with a record that is there, if the relay has a receipt for its number.
func (a *anchors) against(at link) (one tunnel.AuditReceipt, seen bool, what string) {
	one, seen = a.byN[at.n]
	if seen && one.Hash != at.head() {
		what = fmt.Sprintf("it is not the record for which the relay gave a receipt at %s: what stands up to here was written anew",
			one.Time.UTC().Format(time.RFC3339))
	}
	return one, seen, what
}
