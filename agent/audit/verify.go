package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sallyport/agent/state"
)

// A Report is what Verify found.
type Report struct {
	// First and Last are the first and the last record that are there and follow one another.
	First uint64 `json:"first,omitempty"`
	Last  uint64 `json:"last"`
	// Sealed is the last record that is proved, with all before it, by a seal made at SealedAt with Key.
	Sealed   uint64    `json:"sealed"`
	SealedAt time.Time `json:"sealedAt,omitzero"`
	Key      string    `json:"key,omitempty"`
	// Anchored is the last record that the relay has seen, with all before it, at AnchoredAt by its clock; Unanchored is how
	// many came since, which who owns this machine and the agent's key could have written anew. Foreign counts receipts of
	// other relays.
	Anchored   uint64    `json:"anchored"`
	AnchoredAt time.Time `json:"anchoredAt,omitzero"`
	Unanchored uint64    `json:"unanchored"`
	Foreign    int       `json:"foreignReceipts,omitempty"`
	// Legacy counts lines of version 1. Nothing proves them but the hash of the last one.
	Legacy int `json:"legacy,omitempty"`
	// Torn is the size of a last line without an end, which a crash leaves, or a record that is being written.
	Torn int `json:"torn,omitempty"`
	// Fault is the first record that is not as it was written; nil if all are.
	Fault *Fault `json:"fault,omitempty"`
}

// A Fault is where the record is not as it was written.
type Fault struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
	N    uint64 `json:"n,omitempty"`
	What string `json:"what"`
}

func (f *Fault) Error() string {
	where := f.File
	if f.Line > 0 {
		where = fmt.Sprintf("%s line %d", f.File, f.Line)
	}
	if f.N > 0 {
		where += fmt.Sprintf(", record %d", f.N)
	}
	return where + ": " + f.What
}

// Verify proves the record in a state directory: the chain over all its files, and the seals, which have to be by one of
// keys (fingerprints); and that it agrees with the receipts of the relay. It works beside an agent that writes, and changes
// nothing. An error means that it could not look.
func Verify(ctx context.Context, dir state.Dir, keys []string, relay Witness) (*Report, error) {
	sub, err := dir.Sub(subdirectory)
	var anchored anchors
	var forged *Fault
	if err == nil { // before the files, so that no receipt is newer than they are
		anchored, forged, err = relay.check(sub)
	}
	files, head, err := openAll(sub, err)
	defer func() {
		for _, f := range files {
			f.Close() // it was only read
		}
	}()
	if err != nil {
		return nil, fmt.Errorf("verify the audit record: %w", err)
	}
	w := &walker{keys: keys, rep: &Report{Foreign: anchored.alien}, anchored: anchored}
	if fault := w.setHead(head); fault != nil {
		w.rep.Fault = fault
	}
	for i, f := range files {
		fault, err := w.file(ctx, f, i == len(files)-1)
		if err != nil {
			return nil, fmt.Errorf("verify the audit record: %w", err)
		}
		if fault != nil {
			w.rep.Fault = fault
			return w.rep.counted(), nil
		}
	}
	if w.rep.Fault == nil {
		w.rep.Fault = w.end()
	}
	if w.rep.Fault == nil {
		w.rep.Fault = forged
	}
	return w.rep.counted(), nil
}

func (r *Report) counted() *Report {
	r.Unanchored = r.Last - min(r.Last, max(r.Anchored, r.First-min(r.First, 1)))
	return r
}

// openTries bounds how often the files are opened anew because a running agent set one aside meanwhile.
const openTries = 5

// openAll opens the files in their order, and reads the head before them, so that it cannot be newer than they are.
func openAll(dir state.Dir, err error) (files []*os.File, head []byte, _ error) {
	if err != nil {
		return nil, nil, err
	}
	for range openTries {
		if head, err = dir.Read(headFile, maxLine); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		before, err := asides(dir)
		if err != nil {
			return nil, nil, err
		}
		gone := false
		for _, name := range append(slices.Clone(before), current) {
			f, err := openToRead(dir.Path(name))
			if errors.Is(err, fs.ErrNotExist) {
				gone = gone || name != current
				continue
			}
			if err != nil {
				return files, nil, err
			}
			files = append(files, f)
		}
		after, err := asides(dir)
		if err != nil || !gone && slices.Equal(before, after) {
			return files, head, err
		}
		for _, f := range files {
			f.Close() // it was only read
		}
		files = nil
	}
	return nil, nil, errors.New("files are set aside faster than they can be opened; try again")
}

// A walker goes over the records in their order.
type walker struct {
	keys []string
	rep  *Report

	at       link
	begun    bool   // a record of the chain was seen
	legacy   string // the hash of the last line of version 1
	gone     *link  // what the first record that is left follows
	goneHead string
	noted    uint64 // the checkpoint that tells of gone
	head     *record
	headOK   bool
	seals    int
	anchored anchors
}

func (w *walker) setHead(line []byte) *Fault {
	if line == nil {
		return nil
	}
	r, err := parse(bytes.TrimSuffix(line, []byte("\n")))
	if err == nil && r.Kind != Seal {
		err = errors.New("it is no seal")
	}
	if err != nil {
		return &Fault{File: headFile, What: err.Error()}
	}
	w.head = &r
	return nil
}

func (w *walker) file(ctx context.Context, f *os.File, last bool) (*Fault, error) {
	name := filepath.Base(f.Name())
	r := bufio.NewReaderSize(f, maxLine)
	for n := 1; ctx.Err() == nil; n++ {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return &Fault{File: name, Line: n, What: "the line is longer than any record"}, nil
		case err == io.EOF && len(line) == 0:
			return nil, nil
		case err == io.EOF && last:
			w.rep.Torn = len(line)
			return nil, nil
		case err == io.EOF:
			return &Fault{File: name, Line: n, What: "the line has no end, and it is not the last one of the record"}, nil
		case err != nil:
			return nil, err
		}
		if what, n64 := w.take(line[:len(line)-1]); what != "" {
			return &Fault{File: name, Line: n, N: n64, What: what}, nil
		}
	}
	return nil, context.Cause(ctx)
}

// take judges the next line. It says what is wrong with which record.
func (w *walker) take(line []byte) (what string, n uint64) {
	r, err := parse(line)
	if err != nil {
		return err.Error(), w.at.n + 1
	}
	if r.Version == 1 {
		if w.begun {
			return "a line of version 1 stands among records of the chain", w.at.n + 1
		}
		sum := sha256.Sum256(line)
		w.legacy = encode(sum[:])
		w.rep.Legacy++
		return "", 0
	}
	if !w.begun {
		if what := w.begin(&r); what != "" {
			return what, r.N
		}
	}
	switch want := w.at.n + 1; {
	case r.N == want:
	case r.N == want+1:
		return fmt.Sprintf("record %d is missing before it", want), want
	case r.N > want:
		return fmt.Sprintf("records %d to %d are missing before it", want, r.N-1), want
	default:
		return fmt.Sprintf("record %d stands where %d has to be", r.N, want), want
	}
	prev := w.at
	if prev.hash(r.body) != r.h {
		return "it was altered: its hash does not fit it and the record before it", r.N
	}
	w.at = link{r.N, r.h}
	w.rep.Last = r.N
	if what := w.anchor(); what != "" {
		return what, r.N
	}
	return w.own(&r, prev)
}

// anchor compares the last record that was taken with the relay's receipt for it.
func (w *walker) anchor() (what string) {
	one, seen, what := w.anchored.against(w.at)
	if seen && what == "" {
		w.rep.Anchored, w.rep.AnchoredAt = one.N, one.Time
	}
	return what
}

// begin takes the first record that is left.
func (w *walker) begin(r *record) (what string) {
	w.begun, w.rep.First = true, r.N
	switch {
	case r.N == 1 && r.Head == w.legacy:
		return ""
	case r.N == 1 && w.legacy == "": // retention may have deleted the lines of version 1
		w.gone, w.goneHead = &link{}, r.Head
		return ""
	case r.N == 1:
		return "the lines of version 1 before it are not those that it followed"
	case r.Kind != Begin || r.Last != r.N-1 || w.legacy != "":
		return fmt.Sprintf("records before it are missing: the first one that is left has number %d and does not begin a file", r.N)
	}
	var h [sha256.Size]byte
	if rest, ok := cutMember([]byte(r.Head), "", hashText, h[:]); !ok || len(rest) > 0 {
		return "it does not say which record it follows"
	}
	w.at = link{r.Last, h}
	w.gone, w.goneHead = &link{r.Last, h}, r.Head
	return w.anchor()
}

// own judges what the chain says of itself.
func (w *walker) own(r *record, prev link) (what string, n uint64) {
	if w.head != nil && w.head.N == r.N {
		if w.headOK = w.head.h == r.h; !w.headOK {
			return "it is not the record that " + headFile + " names: what stands before it was written anew", r.N
		}
	}
	switch r.Kind {
	case Seal:
		key, err := r.signer(prev)
		if err != nil {
			return err.Error(), r.N
		}
		if !slices.Contains(w.keys, key) {
			return "the seal is by the key " + key + ", which never was this agent's", r.N
		}
		w.seals++
		w.rep.Sealed, w.rep.SealedAt, w.rep.Key = r.N, r.Time, key
	case Broken:
		return fmt.Sprintf("the agent found when it started: %s (the last seal known to it was record %d)", r.Detail, r.Last), r.N
	case Checkpoint:
		if w.gone != nil && r.Last == w.gone.n && r.Head == w.goneHead {
			w.noted = r.N
		}
	}
	return "", 0
}

// end judges what is missing when all records were taken.
func (w *walker) end() *Fault {
	switch {
	case w.gone != nil && (w.noted == 0 || w.noted > w.rep.Sealed):
		return &Fault{File: current, N: 1, What: fmt.Sprintf("what stood before record %d is missing, and no sealed checkpoint says that it was deleted in order", w.rep.First)}
	case w.anchored.last != nil && w.anchored.last.N > w.at.n:
		return &Fault{File: current, N: w.at.n + 1, What: fmt.Sprintf("records up to %d are missing at the end: the relay gave a receipt for it at %s",
			w.anchored.last.N, w.anchored.last.Time.UTC().Format(time.RFC3339))}
	case w.head != nil && w.head.N > w.at.n:
		return &Fault{File: current, N: w.at.n + 1, What: fmt.Sprintf("records up to %d were sealed and are missing at the end", w.head.N)}
	case w.head != nil && !w.headOK:
		return &Fault{File: headFile, N: w.head.N, What: "it is older than the records that are left"}
	case w.head == nil && w.seals > 1: // a crash can come between the first seal and its copy
		return &Fault{File: headFile, What: "it is missing, and there are seals"}
	}
	return nil
}
