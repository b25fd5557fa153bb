// Package backup writes what a relay must not lose into one file, and makes a data folder from it: gateways, agents,
// connectors, the hashes of keys, and the relay's signing key. It is also the way to another machine, and to a later store.
//
// It is logical: it knows records and not the store's files, so that a backup outlives their form. The logs are not part of
// it; 'sallyport-relay log --json' exports them. It does not encrypt: who has the file can pose as the relay.
//
//	err := backup.Write(ctx, w, header, key, st.Dump)   // while the relay runs
//	header, err := backup.Verify(f)                     // is it whole
//	err = backup.Restore(ctx, f, dir, log)              // into an empty folder
//
// The file is JSON, one object a line: the header, then the key, then the records, last the end with the number of lines
// before it and the SHA-256 of their bytes. A file without its end is not whole.
package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

const (
	format  = "sallyport-relay-backup"
	version = 1
	// maxLine is beyond the longest record, of 512 KiB in base 64.
	maxLine = 1 << 20
)

// ErrDamaged says that a file is not a whole backup that this program can read.
var ErrDamaged = errors.New("the backup cannot be used")

// A Header begins a backup.
type Header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Made is when, Relay the public URL of which relay, Program its version.
	Made    time.Time `json:"made"`
	Relay   string    `json:"relay"`
	Program string    `json:"program"`
}

// A line is one of those after the header; one member is set.
type line struct {
	// Key is the relay's signing key, PEM (PKCS #8).
	Key    []byte  `json:"key,omitempty"`
	Record *Record `json:"record,omitempty"`
	End    *end    `json:"end,omitempty"`
}

// A Record is a value of the store.
type Record struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Value  []byte `json:"value"`
}

type end struct {
	Lines  int    `json:"lines"`
	SHA256 string `json:"sha256"`
}

// A Dump hands over every record of a store.
type Dump func(ctx context.Context, fn func(bucket, key string, value []byte) error) error

// Write writes a backup. key is the file of the relay's signing key. Format and Version of the header are filled in.
func Write(ctx context.Context, w io.Writer, h Header, key []byte, dump Dump) error {
	h.Format, h.Version = format, version
	out := &writer{w: bufio.NewWriter(w), sum: sha256.New()}
	if err := out.line(h); err != nil {
		return err
	}
	if err := out.line(line{Key: key}); err != nil {
		return err
	}
	err := dump(ctx, func(bucket, key string, value []byte) error {
		return out.line(line{Record: &Record{Bucket: bucket, Key: key, Value: value}})
	})
	if err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	return errors.Join(out.line(line{End: &end{Lines: out.lines, SHA256: hex.EncodeToString(out.sum.Sum(nil))}}), out.w.Flush())
}

type writer struct {
	w     *bufio.Writer
	sum   hash.Hash
	lines int
}

func (w *writer) line(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a line of the backup: %w", err)
	}
	text = append(text, '\n')
	_, _ = w.sum.Write(text) // never fails (hash.Hash)
	w.lines++
	if _, err := w.w.Write(text); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	return nil
}

// Contents is what Read hands over, in the order of the file.
type Contents struct {
	Header func(Header) error
	Key    func(pem []byte) error
	Record func(Record) error
}

// Verify reads a backup to its end and says with ErrDamaged that it is not whole. records is how many it holds.
func Verify(r io.Reader) (h Header, records int, err error) {
	err = read(r, Contents{
		Header: func(got Header) error { h = got; return nil },
		Key:    func([]byte) error { return nil },
		Record: func(Record) error { records++; return nil },
	})
	return h, records, err
}

// read hands over what a backup holds. That it is whole is known only when it returns.
func read(r io.Reader, c Contents) error {
	in := &reader{r: bufio.NewReaderSize(r, maxLine), sum: sha256.New()}
	text, err := in.next()
	if err != nil {
		return err
	}
	var h Header
	if json.Unmarshal(text, &h) != nil || h.Format != format {
		return damaged("it is no backup of a relay")
	}
	if h.Version != version {
		return damaged("its version is %d; this program reads version %d", h.Version, version)
	}
	if err := c.Header(h); err != nil {
		return err
	}
	for keys := 0; ; {
		sum, lines := hex.EncodeToString(in.sum.Sum(nil)), in.lines
		text, err := in.next()
		if err != nil {
			return err
		}
		var l line
		if err := strict(text, &l); err != nil {
			return damaged("line %d cannot be read: %v", in.lines, err)
		}
		switch {
		case l.Record != nil && l.Key == nil && l.End == nil:
			err = c.Record(*l.Record)
		case l.Key != nil && l.Record == nil && l.End == nil:
			if keys++; !isKey(l.Key) {
				return damaged("line %d is no signing key", in.lines)
			}
			err = c.Key(l.Key)
		case l.End != nil && l.Key == nil && l.Record == nil:
			return in.finish(*l.End, end{Lines: lines, SHA256: sum}, keys)
		default:
			return damaged("line %d is none of a key, a record and the end", in.lines)
		}
		if err != nil {
			return err
		}
	}
}

type reader struct {
	r     *bufio.Reader
	sum   hash.Hash
	lines int
}

func (r *reader) next() ([]byte, error) {
	text, err := r.r.ReadSlice('\n')
	switch {
	case err == io.EOF:
		return nil, damaged("it ends in line %d, before its end", r.lines+1)
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, damaged("line %d is too long", r.lines+1)
	case err != nil:
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	_, _ = r.sum.Write(text) // never fails (hash.Hash)
	r.lines++
	return text, nil
}

func (r *reader) finish(said, found end, keys int) error {
	if said != found {
		return damaged("its bytes are not those that were written (%d lines with the SHA-256 %s, not %d with %s)",
			found.Lines, found.SHA256, said.Lines, said.SHA256)
	}
	if keys != 1 {
		return damaged("it holds %d signing keys", keys)
	}
	if _, err := r.r.Peek(1); err != io.EOF {
		return damaged("something follows its end")
	}
	return nil
}

func strict(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

func isKey(text []byte) bool {
	block, _ := pem.Decode(text)
	if block == nil {
		return false
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	_, ok := key.(ed25519.PrivateKey)
	return err == nil && ok
}

func damaged(format string, v ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, v...))
}
