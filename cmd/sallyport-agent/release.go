package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/agent/state"
	"sallyport/agent/update"
	"sallyport/internal/signature"
)

// releaseCommand is for whoever makes releases, or vets them for a company.
func (p *program) releaseCommand() *cobra.Command {
	keygen := &cobra.Command{
		Use: "keygen FILE", Short: "Make a key that signs releases", Args: exactly(1, 1, ""),
		Long:    "Writes a new private key (Ed25519, PEM) to FILE, which must not exist, and prints the lines for agent.yaml. Keep the key where releases are made.",
		Example: "  sallyport-agent release keygen release-key.pem",
		RunE: does(func(_ context.Context, args []string) error {
			return p.makeSigner(args[0], "update:\n  signers:\n    - %s\n")
		}),
	}
	var key string
	sign := &cobra.Command{
		Use: "sign SHA256SUMS", Short: "Sign the checksums of a release", Args: exactly(1, 1, ""),
		Long: `Adds a signature of a release's SHA256SUMS to the file SHA256SUMS.sig beside it. Whoever vets releases for a company can sign
them with a key of their own; installer/build.sh does it with the key that SALLYPORT_RELEASE_KEY names.`,
		Example: "  sallyport-agent release sign --key release-key.pem dist/SHA256SUMS",
		RunE:    does(func(_ context.Context, args []string) error { return p.signRelease(key, args[0]) }),
	}
	sign.Flags().StringVar(&key, "key", "", "the `file` with the private key")
	_ = sign.MarkFlagRequired("key")
	return group("release", "Sign releases, for 'update'", keygen, sign)
}

func (p *program) signRelease(keyFile, sums string) error {
	key, err := signingKey(keyFile, "release")
	if err != nil {
		return err
	}
	text, err := readBounded(sums, update.MaxSums)
	if err != nil {
		return err
	}
	line, err := update.Sign(key, text)
	if err != nil {
		return err
	}
	old, err := readBounded(sums+".sig", signature.MaxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !strings.Contains(string(old), line) {
		line = string(old) + line
	} else {
		line = string(old)
	}
	if err := os.WriteFile(sums+".sig", []byte(line), 0o644); err != nil {
		return fmt.Errorf("write the signature: %w", err)
	}
	_, err = fmt.Fprintf(p.out, "signed %s\n", sums)
	return err
}

// releaseSigners are the keys that agent.yaml trusts with releases. Who can write that file decides what is installed, so
// nobody but admins may, and where it has to be signed it is.
func (p *program) releaseSigners() ([]string, error) {
	c, there, err := p.configIfThere()
	if err != nil || !there || len(c.Update.Signers) == 0 {
		return nil, err
	}
	if err := state.CheckWritable(p.config); err != nil {
		return nil, fmt.Errorf("update.signers cannot be trusted, or give --key: %w", err)
	}
	dir, err := p.openState()
	if errors.Is(err, fs.ErrNotExist) {
		return c.Update.Signers, nil
	}
	if err != nil {
		return nil, err
	}
	if pinned, err := agent.Signers(dir); err != nil || len(pinned) == 0 {
		return c.Update.Signers, err
	}
	if c, err = agent.ReadSigned(p.config, dir); err != nil {
		return nil, err
	}
	return c.Update.Signers, nil
}

// choose gives the package that is meant, and its bytes, which are what a trusted key has signed.
func (p *program) choose(in *installation, o updateOrder) (pkg update.Package, data []byte, err error) {
	signers, err := o.signers(in.signers)
	if err != nil {
		return pkg, nil, err
	}
	folder := cmp.Or(o.from, filepath.Dir(o.pkg))
	sumsFile := cmp.Or(o.sums, filepath.Join(folder, update.SumsFile))
	sums, err := readBounded(sumsFile, update.MaxSums)
	if err != nil {
		return pkg, nil, fmt.Errorf("read the release's checksums: %w", err)
	}
	lines, err := readBounded(sumsFile+".sig", signature.MaxFile)
	if err != nil {
		return pkg, nil, fmt.Errorf("read the release's signatures: %w", err)
	}
	release, err := update.ReadRelease(sums, lines, signers)
	if err != nil {
		return pkg, nil, err
	}
	path := o.pkg
	if o.from != "" {
		if path, err = newest(release, o.from); err != nil {
			return pkg, nil, err
		}
	}
	if data, err = readBounded(path, update.MaxPackage); err != nil {
		return pkg, nil, fmt.Errorf("read the package: %w", err)
	}
	if pkg, err = release.Of(data); err != nil {
		return pkg, nil, fmt.Errorf("%s: %w", path, err)
	}
	fmt.Fprintf(p.out, "%s is signed by %s.\n", pkg.Name, release.Signer)
	return pkg, data, nil
}

// newest gives the path of the newest package for this machine that lies in a folder.
func newest(r *update.Release, folder string) (string, error) {
	for _, one := range r.For(runtime.GOOS, runtime.GOARCH) {
		path := filepath.Join(folder, one.Name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s has no package of the agent for %s/%s that its %s lists", folder, runtime.GOOS, runtime.GOARCH, update.SumsFile)
}

// signers are the keys that are trusted: the one of the command line, or else the configuration's.
func (o updateOrder) signers(configured []string) ([]string, error) {
	if o.key == "" {
		if len(configured) == 0 {
			return nil, errors.New("nobody is trusted to sign releases: give the signer's public key with --key, or in agent.yaml under update.signers")
		}
		return configured, nil
	}
	text := o.key
	if _, ok := signature.ParseName(text); !ok {
		data, err := readBounded(o.key, signature.MaxFile)
		if err != nil {
			return nil, fmt.Errorf("--key: neither a key (ed25519:...) nor a file with one: %w", err)
		}
		text = strings.TrimSpace(string(data))
	}
	if _, ok := signature.ParseName(text); !ok {
		return nil, fmt.Errorf("--key: %s holds no public key (a line with ed25519:..., as 'sallyport-agent release keygen' prints)", o.key)
	}
	return []string{text}, nil
}

// readBounded reads a file of at most so many bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, err
}
