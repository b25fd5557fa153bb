package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrFull says that the objects of a kind take as much room as they may.
var ErrFull = errors.New("the store has no room left for it")

// objectChunk is how an object is cut for the embedded server: few messages for a large one, well below what a message
// may hold.
const objectChunk = 128 << 10

// Objects hold byte strings of any size by name, for a limited time: what is too large or too short-lived for a Bucket.
// They are no configuration: the witness does not count them and a backup leaves them out.
type Objects struct {
	store *Store
	name  string
	os    jetstream.ObjectStore
}

// errStreamStoreFull is the server's JSStreamStoreFailedF: the stream takes no more bytes.
const errStreamStoreFull = 10077

// readWithin bounds the reading of one object: the library's own bound, 15 s, is too short for a slow caller.
const readWithin = 30 * time.Minute

// An Object is what is known of one without reading it.
type Object struct {
	Name string
	Size int64
	Made time.Time
}

// Objects opens the objects of this kind. Together they take maxBytes at most, and each is gone after keep.
func (s *Store) Objects(ctx context.Context, kind string, maxBytes int64, keep time.Duration) (*Objects, error) {
	os, err := s.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
		Bucket: kind, MaxBytes: maxBytes, TTL: keep, Storage: jetstream.FileStorage,
	})
	if err != nil {
		return nil, fmt.Errorf("open the objects %q: %w", kind, err)
	}
	return &Objects{store: s, name: kind, os: os}, nil
}

// Put stores what r gives under name, in the place of what was there before. It is on the disk when the call returns
// without an error; if r fails, nothing has changed and the error is r's.
func (o *Objects) Put(ctx context.Context, name string, r io.Reader) (size int64, err error) {
	if err := errors.Join(o.store.failure(), o.store.room(logReserve)); err != nil {
		return 0, o.failed("write", name, err)
	}
	meta := jetstream.ObjectMeta{Name: name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: objectChunk}}
	info, err := o.os.Put(ctx, meta, fullReader{bufio.NewReaderSize(r, objectChunk)})
	if err != nil {
		return 0, o.failed("write", name, err)
	}
	return int64(info.Size), nil
}

// A fullReader fills what it is given: the library makes a message of each Read.
type fullReader struct{ r *bufio.Reader }

func (f fullReader) Read(p []byte) (int, error) {
	n, err := io.ReadFull(f.r, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF // ReadFull's word for a last piece that is shorter
	}
	return n, err
}

// Get reads an object, or fails with ErrNotFound. The reader must be closed; it ends with ctx.
func (o *Objects) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	r, err := o.os.Get(ctx, name)
	if err != nil {
		cancel()
		return nil, o.failed("read", name, err)
	}
	return &reading{r, cancel}, nil
}

// A reading ends its context when it is closed.
type reading struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (r *reading) Close() error {
	defer r.cancel()
	return r.ReadCloser.Close()
}

// Delete takes an object away. That it is not there is no error.
func (o *Objects) Delete(ctx context.Context, name string) error {
	if err := o.os.Delete(ctx, name); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return o.failed("delete", name, err)
	}
	return nil
}

// List gives all objects, in no order.
func (o *Objects) List(ctx context.Context) ([]Object, error) {
	infos, err := o.os.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the objects %q: %w", o.name, err)
	}
	out := make([]Object, 0, len(infos))
	for _, i := range infos {
		out = append(out, Object{Name: i.Name, Size: int64(i.Size), Made: i.ModTime})
	}
	return out, nil
}

func (o *Objects) failed(what, name string, err error) error {
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return ErrNotFound
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == errStreamStoreFull {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return fmt.Errorf("%s %q of the objects %q: %w", what, name, o.name, err)
}
