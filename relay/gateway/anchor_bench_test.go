package gateway_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/relay/gateway"
	"sallyport/relay/store"
)

// BenchmarkAnchors is what the heads of agents' records cost the relay's store when each agent has the longest history that is kept:
// 10,000 busy agents show 167 heads a second.
func BenchmarkAnchors(b *testing.B) {
	st, err := store.Open(b.Context(), store.Config{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = st.Close(context.Background()) })
	bucket, err := st.Bucket(b.Context(), "anchors")
	if err != nil {
		b.Fatal(err)
	}
	m := store.NewRecords[gateway.Anchors](bucket)
	const at = 64 // heads at once
	full := gateway.FullAnchors("plant1", hashOf(1), time.Now())
	for i := range at {
		if _, err := m.Create(b.Context(), fmt.Sprint("a", i), full); err != nil {
			b.Fatal(err)
		}
	}
	var next atomic.Uint64
	b.SetParallelism(at / 2)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		name := fmt.Sprint("a", next.Add(1)%at)
		for n := uint64(1 << 20); pb.Next(); n++ {
			_, _, err := m.Update(b.Context(), name, func(a gateway.Anchors) (gateway.Anchors, error) {
				return gateway.TakeAnchor(a, n, hashOf(int(n)), time.Now())
			})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}
