package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"sallyport/agent/state"
)

const (
	// sizeLimit is enough for a keytab or a PEM bundle.
	sizeLimit = 64 << 10
	// suffix marks the store's files.
	suffix = ".secret"
	// subdirectory of the state directory.
	subdirectory = "secrets"
)

// ErrNotFound is wrapped by errors about a name that has no secret.
var ErrNotFound = errors.New("no such secret")

// nameForm is a subset that is the same name on every file system.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// A Store is a set of named secrets. Programs may share it: each Get reads the disk, each Set replaces one file.
type Store struct {
	dir         state.Dir
	credentials string
}

// Sources of a secret.
const (
	SourceStore   = "store"   // set with 'sallyport-agent secret set'
	SourceSystemd = "systemd" // LoadCredential= or LoadCredentialEncrypted= of the service's unit
)

// An Info says about a secret what may be shown.
type Info struct {
	Name    string    `json:"name"`
	Source  string    `json:"source"`
	Changed time.Time `json:"changed"`
}

// Open gives the store inside the agent's state directory. credentials is systemd's directory of credentials for this
// service, or empty; the store's own secrets go before those.
func Open(dir state.Dir, credentials string) (*Store, error) {
	sub, err := dir.Sub(subdirectory)
	if err != nil {
		return nil, fmt.Errorf("open the secret store: %w", err)
	}
	return &Store{dir: sub, credentials: credentials}, nil
}

// CheckName says what is wrong with a name, or nil.
func CheckName(name string) error {
	if !nameForm.MatchString(name) || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
		// The name is not quoted in full: somebody may have typed the secret in its place.
		return errors.New("a secret's name has 1 to 63 characters of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit (erp-password)")
	}
	base, _, _ := strings.Cut(name, ".")
	if slices.Contains([]string{"con", "prn", "aux", "nul"}, base) ||
		len(base) == 4 && (strings.HasPrefix(base, "com") || strings.HasPrefix(base, "lpt")) && base[3] >= '0' && base[3] <= '9' {
		return fmt.Errorf("the name %q means a device on Windows; take another", name)
	}
	return nil
}

// Set stores a value under a name, replacing an older one as a whole.
func (s *Store) Set(name string, value Secret) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if value.Empty() {
		return fmt.Errorf("set secret %s: the value is empty", name)
	}
	if len(value.Reveal()) > sizeLimit {
		return fmt.Errorf("set secret %s: the value has more than %d bytes", name, sizeLimit)
	}
	sealed, err := Seal(name, []byte(value.Reveal()))
	if err != nil {
		return fmt.Errorf("set secret %s: %w", name, err)
	}
	if err := s.dir.Write(name+suffix, sealed); err != nil {
		return fmt.Errorf("set secret %s: %w", name, err)
	}
	return nil
}

// Get gives the value of a name: the store's own, else systemd's credential. The error wraps ErrNotFound if there is
// neither.
func (s *Store) Get(name string) (Secret, error) {
	if err := CheckName(name); err != nil {
		return Secret{}, err
	}
	// Sealing adds a little; twice the limit admits it.
	sealed, err := s.dir.Read(name+suffix, 2*sizeLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return s.credential(name)
	}
	if err != nil {
		return Secret{}, fmt.Errorf("read secret %s: %w", name, err)
	}
	plain, err := Unseal(name, sealed)
	if err != nil {
		return Secret{}, fmt.Errorf("read secret %s: %w; set it again with: sallyport-agent secret set %s", name, err, name)
	}
	if len(plain) == 0 {
		return Secret{}, fmt.Errorf("secret %s is empty (disk full?); set it again with: sallyport-agent secret set %s", name, name)
	}
	return New(string(plain)), nil
}

// credential reads a secret that systemd keeps. Its directory is made by systemd for this service alone (mode 0500,
// files 0400), so the mode is not checked again. One line end, which editors and echo add, is not part of the value.
func (s *Store) credential(name string) (Secret, error) {
	missing := fmt.Errorf("%w: %s; set it with: sallyport-agent secret set %s", ErrNotFound, name, name)
	if s.credentials == "" {
		return Secret{}, missing
	}
	data, err := os.ReadFile(filepath.Join(s.credentials, name))
	if errors.Is(err, fs.ErrNotExist) {
		return Secret{}, missing
	}
	if err != nil {
		return Secret{}, fmt.Errorf("read secret %s from systemd: %w", name, err)
	}
	value := TrimLineEnd(string(data))
	if value == "" || len(value) > sizeLimit {
		return Secret{}, fmt.Errorf("read secret %s from systemd: it is empty or has more than %d bytes", name, sizeLimit)
	}
	return New(value), nil
}

// TrimLineEnd removes one line end.
func TrimLineEnd(s string) string {
	return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r")
}

// Remove deletes a secret of the store. The error wraps ErrNotFound if there is none.
func (s *Store) Remove(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	err := s.dir.Remove(name + suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return fmt.Errorf("remove secret %s: %w", name, err)
	}
	return nil
}

// List gives the names, sorted, never the values. A name that both sources have is listed once, as the store's.
func (s *Store) List() ([]Info, error) {
	names, err := s.dir.Names()
	if err != nil {
		return nil, fmt.Errorf("list secrets: %w", err)
	}
	found := map[string]Info{}
	if s.credentials != "" {
		entries, err := os.ReadDir(s.credentials)
		if err != nil {
			return nil, fmt.Errorf("list systemd's credentials: %w", err)
		}
		for _, e := range entries {
			s.add(found, filepath.Join(s.credentials, e.Name()), e.Name(), SourceSystemd)
		}
	}
	for _, file := range names {
		if name, ok := strings.CutSuffix(file, suffix); ok {
			s.add(found, s.dir.Path(file), name, SourceStore)
		}
	}
	list := make([]Info, 0, len(found))
	for _, info := range found {
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (s *Store) add(found map[string]Info, path, name, source string) {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() || CheckName(name) != nil {
		return // removed meanwhile, or not one of ours
	}
	found[name] = Info{Name: name, Source: source, Changed: st.ModTime().UTC().Truncate(time.Second)}
}
