package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"sallyport/relay/gateway"
	"sallyport/relay/store"
)

// storeDir is the store's folder in the data folder.
const storeDir = "store"

// Restore makes a relay's data folder from a backup. The folder must be empty or not exist, and the backup whole: else
// nothing is written. What fails half-way leaves the folder empty again.
func Restore(ctx context.Context, f io.ReadSeeker, dir string, log *slog.Logger) (err error) {
	if _, _, err := Verify(f); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the backup again: %w", err)
	}
	if err := prepare(dir); err != nil {
		return err
	}
	work, err := os.MkdirTemp(dir, ".restore-")
	if err != nil {
		return fmt.Errorf("restore into %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := fill(ctx, f, work, log); err != nil {
		return fmt.Errorf("restore into %s: %w", dir, err)
	}
	// The store first: a relay refuses to start on a store without its key, but on a key alone it would start empty.
	for _, name := range []string{storeDir, filepath.Base(gateway.KeyFile(dir))} {
		if err := os.Rename(filepath.Join(work, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("restore into %s: %w", dir, err)
		}
	}
	return nil
}

// prepare makes the folder, or finds it empty.
func prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look into the data folder: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("the data folder %s is not empty (%s); move what is there away, because a backup is restored into an empty folder only",
			dir, entries[0].Name())
	}
	return checkOwner(dir)
}

func fill(ctx context.Context, f io.Reader, dir string, log *slog.Logger) error {
	st, err := store.Open(ctx, store.Config{Dir: filepath.Join(dir, storeDir), Log: log})
	if err != nil {
		return err
	}
	buckets := map[string]*store.Bucket{}
	err = read(f, Contents{
		Header: func(Header) error { return nil },
		Key:    func(text []byte) error { return writeKey(gateway.KeyFile(dir), text) },
		Record: func(r Record) error {
			b := buckets[r.Bucket]
			if b == nil {
				if b, err = st.Bucket(ctx, r.Bucket); err != nil {
					return err
				}
				buckets[r.Bucket] = b
			}
			_, err := b.Create(ctx, r.Key, r.Value)
			return err
		},
	})
	return errors.Join(err, st.Close(context.WithoutCancel(ctx)))
}

func writeKey(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return damaged("it holds several signing keys")
	}
	if err != nil {
		return fmt.Errorf("write the signing key: %w", err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the signing key: %w", err)
	}
	return nil
}
