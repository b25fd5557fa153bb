package operation

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A record at rest is
//
//	"sop1" | salt (16) | segment | segment ...
//	segment: length (4, big endian, its highest bit on the last segment) | AES-256-GCM ciphertext and tag
//
// The first segment holds the Record as JSON, the others the body. The key is HKDF-SHA256 of the token with the salt, and the
// record's name as info; the nonce is the segment's number and whether it is the last one. So the store alone cannot
// read it, a segment cannot be moved, left out or cut off unseen, and no key is used for two records.
const (
	magic       = "sop1"
	saltLength  = 16
	segment     = 64 << 10
	maxHead     = 1 << 20
	lastSegment = 1 << 31
)

// errSealed says that what is in the store was not written under this token.
var errSealed = errors.New("the record cannot be decrypted")

func newAEAD(token, name string, salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(token), salt, "sallyport operation "+name, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// nonce numbers the segments; a number is used once, because the salt makes the key new for each record.
func nonce(n uint64, last bool) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint64(b[3:], n)
	if last {
		b[11] = 1
	}
	return b
}

// A sealer encrypts a record on its way into w.
type sealer struct {
	w    io.Writer
	aead cipher.AEAD
	buf  []byte // the segment being filled
	n    uint64
}

// newSealer writes the head.
func newSealer(w io.Writer, token, name string, rec *Record) (*sealer, error) {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	aead, err := newAEAD(token, name, salt)
	if err != nil {
		return nil, err
	}
	head, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	if len(head) > maxHead {
		return nil, fmt.Errorf("%w: a head of %d bytes", ErrTooLarge, len(head))
	}
	if _, err := w.Write(append([]byte(magic), salt...)); err != nil {
		return nil, err
	}
	s := &sealer{w: w, aead: aead}
	return s, s.put(head, false)
}

func (s *sealer) put(plain []byte, last bool) error {
	out := s.aead.Seal(make([]byte, 4, 4+len(plain)+s.aead.Overhead()), nonce(s.n, last), plain, nil)
	length := uint32(len(out) - 4)
	if last {
		length |= lastSegment
	}
	binary.BigEndian.PutUint32(out, length)
	s.n++
	_, err := s.w.Write(out)
	return err
}

// Write keeps a segment back until the next byte shows that it is not the last.
func (s *sealer) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if len(s.buf) == segment {
			if err := s.put(s.buf, false); err != nil {
				return 0, err
			}
			s.buf = s.buf[:0]
		}
		n := min(len(p), segment-len(s.buf))
		s.buf, p = append(s.buf, p[:n]...), p[n:]
	}
	return total, nil
}

// close writes the last segment, without which the record is none.
func (s *sealer) close() error { return s.put(s.buf, true) }

// An opener decrypts a record's body; openRecord has read the head.
type opener struct {
	r    io.ReadCloser
	aead cipher.AEAD
	n    uint64
	rest []byte
	last bool
}

// openRecord reads the head and leaves the body in the reader, which must be closed.
func openRecord(r io.ReadCloser, token, name string) (*Record, *opener, error) {
	start := make([]byte, len(magic)+saltLength)
	if _, err := io.ReadFull(r, start); err != nil || string(start[:len(magic)]) != magic {
		return nil, nil, errors.Join(errSealed, err)
	}
	aead, err := newAEAD(token, name, start[len(magic):])
	if err != nil {
		return nil, nil, err
	}
	o := &opener{r: r, aead: aead}
	head, err := o.next(maxHead)
	if err != nil {
		return nil, nil, err
	}
	rec := new(Record)
	if err := json.Unmarshal(head, rec); err != nil {
		return nil, nil, errors.Join(errSealed, err)
	}
	return rec, o, nil
}

func (o *opener) next(limit int) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(o.r, prefix[:]); err != nil {
		return nil, errors.Join(errSealed, err)
	}
	length := binary.BigEndian.Uint32(prefix[:])
	o.last = length&lastSegment != 0
	length &^= lastSegment
	if int64(length) > int64(limit+o.aead.Overhead()) {
		return nil, errSealed
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(o.r, text); err != nil {
		return nil, errors.Join(errSealed, err)
	}
	plain, err := o.aead.Open(text[:0], nonce(o.n, o.last), text, nil)
	if err != nil {
		return nil, errors.Join(errSealed, err)
	}
	o.n++
	return plain, nil
}

func (o *opener) Read(p []byte) (n int, err error) {
	for len(o.rest) == 0 {
		if o.last {
			return 0, io.EOF
		}
		if o.rest, err = o.next(segment); err != nil {
			return 0, err
		}
	}
	n = copy(p, o.rest)
	o.rest = o.rest[n:]
	return n, nil
}

func (o *opener) Close() error { return o.r.Close() }
