package relay

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"sallyport/relay/backup"
	"sallyport/relay/gateway"
)

// backup writes what this relay must not lose.
func (r *Relay) backup(ctx context.Context, w io.Writer) error {
	key, err := os.ReadFile(gateway.KeyFile(r.config.data()))
	if err != nil {
		return fmt.Errorf("read the relay's signing key: %w", err)
	}
	return backup.Write(ctx, w, backup.Header{Made: time.Now().UTC(), Relay: r.URL(), Program: r.version}, key, r.store.Dump)
}

// Restore makes the data folder of this configuration from a backup; see package backup. No relay may run on it.
func Restore(ctx context.Context, config Config, f io.ReadSeeker, log *slog.Logger) error {
	return backup.Restore(ctx, f, config.data(), log)
}

// DataPath is the folder of everything durable.
func (c *Config) DataPath() string { return c.data() }
