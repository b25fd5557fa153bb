package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sallyport/relay"
	"sallyport/relay/admin"
	"sallyport/relay/backup"
)

func (p *program) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Write what the relay must not lose into a file", Args: exactly("FILE"),
		Long: `Writes gateways, agents, connectors, the hashes of keys, and the relay's signing key into a new file of mode 0600, while
the relay runs, and reads it back. Whoever has the file can pose as this relay: keep it like a private key. The logs are not
in it; 'sallyport-relay log --json' exports them. 'sallyport-relay restore' makes a data folder from it.`,
		Example: `  sallyport-relay backup /var/backups/relay-$(date +%F).backup`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "-" {
				return usagef("a backup is read back once it is written, so it goes into a file: name one")
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			made, err := writeBackup(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return p.print(made, func(w io.Writer) {
				fmt.Fprintf(w, "Wrote %d records of %s to %s.\n\nIt holds the relay's signing key: whoever has this file can pose as the relay. Keep it like a private key.\n",
					made.Records, made.Relay, made.File)
			})
		},
	}
}

// made is what a backup holds.
type made struct {
	File    string `json:"file"`
	Relay   string `json:"relay"`
	Records int    `json:"records"`
}

// writeBackup writes beside the file and renames, so that a file of this name is always whole.
func writeBackup(ctx context.Context, c *admin.Client, path string) (m made, err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("there is a file %s already; a backup overwrites nothing", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-") // mode 0600
	if err != nil {
		return m, fmt.Errorf("make the backup's file: %w", err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := c.Backup(ctx, f); err != nil {
		return m, err
	}
	if err := f.Sync(); err != nil {
		return m, fmt.Errorf("write the backup: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return m, fmt.Errorf("read the backup back: %w", err)
	}
	header, records, err := backup.Verify(f)
	if err != nil {
		return m, err
	}
	// Link, unlike Rename, overwrites nothing that has come into being meanwhile.
	if err := os.Link(f.Name(), path); err != nil {
		return m, fmt.Errorf("give the backup its name: %w", err)
	}
	return made{File: path, Relay: header.Relay, Records: records}, os.Remove(f.Name())
}

func (p *program) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restore FILE|- --config FILE", Short: "Make a data folder from a backup", Args: exactly("FILE"),
		Long: `Makes the data folder that the configuration names from a file that 'backup' has written. The folder must be empty or not
exist, no relay may run on it, and the command must run as the relay's account. With - it reads the backup from
standard input, which that account need not be able to open. A file that is damaged or not whole is refused before anything is written. Agents link again by themselves, and keys work, as soon as the relay is started.`,
		Example: `  runuser -u sallyport-relay -- sallyport-relay restore - --config /etc/sallyport/relay.yaml <relay.backup`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if p.config == "" {
				return usagef("restore needs --config FILE, which names the data folder")
			}
			config, err := p.load()
			if err != nil {
				return err
			}
			return p.restore(cmd.Context(), config, args[0])
		},
	}
}

func (p *program) restore(ctx context.Context, config relay.Config, path string) error {
	f, err := p.openBackup(path)
	if err != nil {
		return err
	}
	defer f.Close()
	header, records, err := backup.Verify(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the backup again: %w", err)
	}
	log := slog.New(slog.NewTextHandler(p.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := relay.Restore(ctx, config, f, log); err != nil {
		return err
	}
	m := made{File: path, Relay: header.Relay, Records: records}
	return p.print(m, func(w io.Writer) {
		fmt.Fprintf(w, "Restored %d records of %s, backed up on %s, into %s. Start the relay.\n", records, header.Relay, day(header.Made), config.DataPath())
	})
}

// openBackup opens a backup's file, or takes the one that standard input is: root can hand one over so to the relay's account.
func (p *program) openBackup(path string) (*os.File, error) {
	if path != "-" {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; as root hand it over: ... restore - --config FILE <%s", err, path)
		}
		if err != nil {
			return nil, fmt.Errorf("read the backup: %w", err)
		}
		return f, nil
	}
	f, ok := p.in.(*os.File)
	if !ok {
		return nil, errors.New("read the backup: standard input is no file")
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("read the backup: standard input is not a file, which it has to be because it is read twice: ... restore - --config FILE <relay.backup")
	}
	return f, nil
}
