package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	definitionStore = "definitions"
	// definitionPieces begins the subjects of the objects' bytes (NATS ADR-20), which end with the object's NUID.
	definitionPieces = "$O." + definitionStore + ".C."

	// MaxDefinition bounds one definition, in bytes: the largest that is known of a public API has 12 MB.
	MaxDefinition = 32 << 20
	// maxDefinitions bounds how many are kept, and maxDefinitionsEach how many of one gateway: as many as an agent can
	// offer APIs.
	maxDefinitions     = 8192
	maxDefinitionsEach = 1024
	// maxDefinitionBytesEach bounds what those of one gateway take when compressed, so that no gateway takes the place of
	// the others; maxDefinitionBytes bounds all. Definitions shrink to about a tenth.
	maxDefinitionBytesEach = 256 << 20
	maxDefinitionBytes     = 4 << 30
	// definitionTimeout bounds reading and writing one: some hundred synced writes of a slow disk.
	definitionTimeout = time.Minute
	// exported, behind an API's name, is the definition that its makers had last. No API has a slash in its name.
	exported = "/exported"
)

// ErrTooMany says that there is no room for another definition.
var ErrTooMany = errors.New("no room is left")

// A Definition is an API's description as its agent shipped it, cut to the allow-list.
type Definition struct {
	// Digest is DigestOf(Body).
	Digest string
	// Body is a JSON document, MaxDefinition bytes at most.
	Body []byte
	// At is when it came.
	At time.Time
}

// DefinitionInfo is what is known of a definition without reading it.
type DefinitionInfo struct {
	Gateway string    `json:"gateway"`
	API     string    `json:"api"`
	Digest  string    `json:"digest"`
	Size    int64     `json:"size"`   // of the body, in bytes
	Stored  int64     `json:"stored"` // what it takes when compressed, in bytes
	At      time.Time `json:"at"`
}

// DigestOf names a definition by its content: "sha256:" and 64 hex digits.
func DigestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Definitions keeps one definition for each API of a gateway, compressed. Unlike what is in buckets it can be had again
// from the agents: one that is damaged is an error when it is read, and no reason not to start.
type Definitions struct {
	objects jetstream.ObjectStore
	stream  jetstream.Stream // what objects consists of
	each    int              // maxDefinitionsEach, except in tests
	// mu makes the check for room and the write one step.
	mu sync.Mutex
}

// Definitions gives the definitions of this store.
func (s *Store) Definitions() *Definitions { return s.definitions }

func openDefinitions(ctx context.Context, js jetstream.JetStream) (*Definitions, error) {
	objects, err := js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
		Bucket: definitionStore, Storage: jetstream.FileStorage, MaxBytes: maxDefinitionBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("open the definitions: %w", err)
	}
	stream, err := js.Stream(ctx, "OBJ_"+definitionStore)
	if err != nil {
		return nil, fmt.Errorf("open the definitions: %w", err)
	}
	d := &Definitions{objects: objects, stream: stream, each: maxDefinitionsEach}
	return d, d.sweep(ctx)
}

// sweep removes what a crash in the middle of Put has left: pieces that belong to no definition.
func (d *Definitions) sweep(ctx context.Context) error {
	infos, err := d.infos(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, o := range infos {
		known[o.NUID] = true
	}
	state, err := d.stream.Info(ctx, jetstream.WithSubjectFilter(definitionPieces+">"))
	if err != nil {
		return fmt.Errorf("look through the definitions: %w", err)
	}
	for subject := range state.State.Subjects {
		if known[strings.TrimPrefix(subject, definitionPieces)] {
			continue
		}
		if err := d.stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("remove pieces of a definition that was never whole: %w", err)
		}
	}
	return nil
}

// The description of an object, beside its bytes.
const (
	metaDigest = "digest"
	metaSize   = "size"
	metaAt     = "at"
)

// Put keeps the definition of a gateway's API in place of the one before. The error is ErrTooMany if the gateway, or the
// relay, has as many as it can have.
func (d *Definitions) Put(ctx context.Context, gateway, api string, def Definition) error {
	name := gateway + "/" + api
	switch {
	case len(def.Body) > MaxDefinition:
		return fmt.Errorf("keep the definition of %s: it has %d bytes, at most %d are kept", name, len(def.Body), MaxDefinition)
	case def.Digest != DigestOf(def.Body):
		return fmt.Errorf("keep the definition of %s: its digest is not that of its bytes", name)
	}
	packed, err := pack(def.Body)
	if err != nil {
		return fmt.Errorf("compress the definition of %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, definitionTimeout)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.room(ctx, gateway, api, int64(len(packed))); err != nil {
		return fmt.Errorf("keep the definition of %s: %w", name, err)
	}
	_, err = d.objects.Put(ctx, jetstream.ObjectMeta{Name: name, Metadata: map[string]string{
		metaDigest: def.Digest, metaSize: strconv.Itoa(len(def.Body)), metaAt: def.At.UTC().Format(time.RFC3339Nano),
	}}, bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("keep the definition of %s: %w", name, closedOr(err))
	}
	return nil
}

// room says why there is none for a definition of so many bytes.
func (d *Definitions) room(ctx context.Context, gateway, api string, bytes int64) error {
	list, err := d.every(ctx)
	if err != nil {
		return err
	}
	// An update holds the old one until the new one is there: both count in the whole, the new one alone in the gateway.
	all, allBytes, each, eachBytes := 1, bytes, 1, bytes
	for _, one := range list {
		allBytes += one.Stored
		if one.Gateway == gateway && one.API == api {
			continue
		}
		all++
		if one.Gateway == gateway {
			if strings.HasSuffix(one.API, exported) == strings.HasSuffix(api, exported) {
				each++
			}
			eachBytes += one.Stored
		}
	}
	switch {
	case each > d.each || eachBytes > maxDefinitionBytesEach:
		return fmt.Errorf("%w: the definitions of gateway %s would be %d with %d bytes (at most %d with %d)",
			ErrTooMany, gateway, each, eachBytes, d.each, maxDefinitionBytesEach)
	case all > maxDefinitions || allBytes > maxDefinitionBytes:
		return fmt.Errorf("%w: the definitions of all gateways would be %d with %d bytes (at most %d with %d)",
			ErrTooMany, all, allBytes, maxDefinitions, int64(maxDefinitionBytes))
	}
	return nil
}

// Get gives the definition of a gateway's API, or ErrNotFound, or ErrDamaged.
func (d *Definitions) Get(ctx context.Context, gateway, api string) (Definition, error) {
	ctx, cancel := context.WithTimeout(ctx, definitionTimeout)
	defer cancel()
	name := gateway + "/" + api
	meta, err := d.objects.GetInfo(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return Definition{}, ErrNotFound
	}
	if err != nil {
		return Definition{}, fmt.Errorf("read the definition of %s: %w", name, closedOr(err))
	}
	info, ok := infoOf(meta)
	if !ok {
		return Definition{}, fmt.Errorf("read the definition of %s: %w: what is written about it is not whole", name, ErrDamaged)
	}
	body, err := d.read(ctx, meta)
	if err == nil && DigestOf(body) != info.Digest {
		err = fmt.Errorf("%w: its bytes are not those that were kept", ErrDamaged)
	}
	if err != nil {
		return Definition{}, fmt.Errorf("read the definition of %s: %w", name, err)
	}
	return Definition{Digest: info.Digest, Body: body, At: info.At}, nil
}

// read gets an object piece by piece. The library's own reader waits for a piece that is damaged until its context ends.
func (d *Definitions) read(ctx context.Context, o *jetstream.ObjectInfo) ([]byte, error) {
	var packed bytes.Buffer
	next := uint64(1)
	for range o.Chunks {
		piece, err := d.stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(definitionPieces+o.NUID))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return nil, fmt.Errorf("%w: a piece of it is missing", ErrDamaged)
		case err != nil:
			return nil, closedOr(err)
		}
		packed.Write(piece.Data)
		next = piece.Sequence + 1
	}
	body, err := unpack(&packed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return body, nil
}

// Info tells of the definition of a gateway's API without reading it, or gives ErrNotFound.
func (d *Definitions) Info(ctx context.Context, gateway, api string) (DefinitionInfo, error) {
	meta, err := d.objects.GetInfo(ctx, gateway+"/"+api)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return DefinitionInfo{}, ErrNotFound
	}
	if err != nil {
		return DefinitionInfo{}, fmt.Errorf("look for the definition of %s/%s: %w", gateway, api, closedOr(err))
	}
	info, ok := infoOf(meta)
	if !ok {
		return DefinitionInfo{}, ErrNotFound
	}
	return info, nil
}

// List tells of all definitions, by gateway and API: a backup reads each with Get.
func (d *Definitions) List(ctx context.Context) ([]DefinitionInfo, error) {
	list, err := d.every(ctx)
	return slices.DeleteFunc(list, func(i DefinitionInfo) bool { return strings.HasSuffix(i.API, exported) }), err
}

// ErrChanged says that a definition is not the one any more that is meant.
var ErrChanged = errors.New("the definition has changed meanwhile")

// Exported notes that makers have the definition of this digest now: what comes after it is compared with it. It is
// ErrChanged if the API has another one by now.
func (d *Definitions) Exported(ctx context.Context, gateway, api, digest string) error {
	def, err := d.Get(ctx, gateway, api)
	if err != nil {
		return err
	}
	if def.Digest != digest {
		return fmt.Errorf("note that the definition of %s/%s was exported: %w", gateway, api, ErrChanged)
	}
	def.At = time.Now()
	return d.Put(ctx, gateway, api+exported, def)
}

// GetExported gives the definition that makers had last, or ErrNotFound; ListExported tells of all, under their APIs.
func (d *Definitions) GetExported(ctx context.Context, gateway, api string) (Definition, error) {
	return d.Get(ctx, gateway, api+exported)
}

// ListExported is List for the definitions that makers had last. At is when they had them.
func (d *Definitions) ListExported(ctx context.Context) ([]DefinitionInfo, error) {
	list, err := d.every(ctx)
	list = slices.DeleteFunc(list, func(i DefinitionInfo) bool { return !strings.HasSuffix(i.API, exported) })
	for i := range list {
		list[i].API = strings.TrimSuffix(list[i].API, exported)
	}
	return list, err
}

// every tells of all that is kept.
func (d *Definitions) every(ctx context.Context) ([]DefinitionInfo, error) {
	objects, err := d.infos(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]DefinitionInfo, 0, len(objects))
	for _, o := range objects {
		if info, ok := infoOf(o); ok {
			list = append(list, info)
		}
	}
	slices.SortFunc(list, func(a, b DefinitionInfo) int {
		return strings.Compare(a.Gateway+"/"+a.API, b.Gateway+"/"+b.API)
	})
	return list, nil
}

func (d *Definitions) infos(ctx context.Context) ([]*jetstream.ObjectInfo, error) {
	list, err := d.objects.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the definitions: %w", closedOr(err))
	}
	return list, nil
}

// Delete forgets the definition of a gateway's API. One that is not there is no error.
func (d *Definitions) Delete(ctx context.Context, gateway, api string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.delete(ctx, gateway, api)
}

func (d *Definitions) delete(ctx context.Context, gateway, api string) error {
	err := d.objects.Delete(ctx, gateway+"/"+api)
	if err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return fmt.Errorf("delete the definition of %s/%s: %w", gateway, api, closedOr(err))
	}
	return nil
}

// DeleteGateway forgets all definitions of a gateway.
func (d *Definitions) DeleteGateway(ctx context.Context, gateway string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	list, err := d.every(ctx)
	if err != nil {
		return err
	}
	for _, one := range list {
		if one.Gateway == gateway {
			if err := d.delete(ctx, gateway, one.API); err != nil {
				return err
			}
		}
	}
	return nil
}

// infoOf reads what Put wrote about an object.
func infoOf(o *jetstream.ObjectInfo) (DefinitionInfo, bool) {
	gateway, api, named := strings.Cut(o.Name, "/")
	size, err := strconv.ParseInt(o.Metadata[metaSize], 10, 64)
	at, err2 := time.Parse(time.RFC3339Nano, o.Metadata[metaAt])
	if !named || o.Deleted || err != nil || err2 != nil || o.Metadata[metaDigest] == "" {
		return DefinitionInfo{}, false
	}
	return DefinitionInfo{
		Gateway: gateway, API: api, Digest: o.Metadata[metaDigest], Size: size, Stored: int64(o.Size), At: at,
	}, true
}

func pack(body []byte) ([]byte, error) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(body)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func unpack(r io.Reader) ([]byte, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(z, MaxDefinition+1))
	if err == nil && len(body) > MaxDefinition {
		err = errors.New("it is larger than any that is kept")
	}
	return body, err
}

// closedOr words the error of a store that was closed.
func closedOr(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) {
		return errors.New("the store is closed")
	}
	return err
}
