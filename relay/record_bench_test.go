package relay

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"sallyport/relay/connector"
)

// BenchmarkRecord is what the record of a call costs, its way to the disk included: once with the file alone, once kept in the
// store as well.
func BenchmarkRecord(b *testing.B) {
	for _, setting := range []string{"off", "on"} {
		b.Run("store="+setting, func(b *testing.B) {
			dir := b.TempDir()
			config := Config{Listen: "127.0.0.1:0", Data: dir, AccessLog: AccessLog{To: "off", Store: setting}}
			if setting == "off" {
				config.AccessLog.To = dir + "/access.log"
			}
			r, err := New(context.Background(), config, "test", slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			e := &connector.Event{
				Time: time.Now(), ID: "BRFXLVNY5JUZWQEIID4WZZFHVX", Gateway: "plant1", Connector: "orders", Key: "flow-prod", Remote: "203.0.113.7",
				Proto: "HTTP/2.0", Method: "GET", Path: "/plant1/orders/v1/orders/4711", Status: 200, Out: 900, Agent: "1eppwke8mhcc0hn3",
			}
			b.ReportAllocs()
			kept := 0
			for b.Loop() {
				dropped := r.store.Dropped()
				if r.record(e); r.store.Dropped() == dropped {
					kept++
				} else {
					time.Sleep(time.Millisecond) // faster than the disk, which a call never waits for
				}
			}
			r.close(context.Background()) // with what is queued
			b.ReportMetric(float64(kept)/b.Elapsed().Seconds(), "kept/s")
		})
	}
}
