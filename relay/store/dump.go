package store

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Dump hands every value of every bucket to fn, bucket by bucket, as it is at that moment. The logs are not part of it.
func (s *Store) Dump(ctx context.Context, fn func(bucket, key string, value []byte) error) error {
	for _, name := range s.witness.names() {
		kv, err := s.js.KeyValue(ctx, name)
		if err != nil {
			return fmt.Errorf("open the bucket %q: %w", name, err)
		}
		var failed error
		b := &Bucket{store: s, name: name, kv: kv}
		l, err := b.load(ctx, func(e jetstream.KeyValueEntry) {
			if failed == nil && e.Operation() == jetstream.KeyValuePut {
				failed = fn(name, e.Key(), e.Value())
			}
		})
		if err != nil {
			return err
		}
		l.stop()
		if failed != nil {
			return failed
		}
	}
	return nil
}
