package store

import (
	"context"
	"log/slog"
	"time"
)

type Config struct {
	Dir         string
	Log         *slog.Logger
	LogMaxBytes int64
	LogMaxAge   time.Duration
}

type Store struct{}

func Open(ctx context.Context, c Config) (*Store, error)                  { panic("soon") }
func (s *Store) Bucket(ctx context.Context, name string) (*Bucket, error) { panic("soon") }
func (s *Store) Append(event []byte) bool                                 { panic("soon") }
func (s *Store) Dropped() uint64                                          { panic("soon") }
func (s *Store) Close(ctx context.Context) error                          { panic("soon") }

type Bucket struct{}
