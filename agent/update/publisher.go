package update

import (
	"debug/pe"
	"errors"
	"fmt"
	"os"
)

// A seal is what this system says of the signature within a program: Authenticode on Windows, and nothing elsewhere.
type seal struct {
	signed    bool
	publisher string // the subject of the signer's certificate
	wrong     error  // why the system does not take the signature; nil if it does
}

// ErrPublisher says that the system does not take a new program for one by the publisher of the present one.
var ErrPublisher = errors.New("its publisher is not known to be the present program's")

// admits says why a program may not follow one of this seal. A release's signer stands for all that the release has; this asks
// beside it who has built what is about to run, where the present program has an answer. What is not signed asks nothing, and
// what was signed is asked for even where its signature has gone bad: else an old certificate would be as good as none.
func (now seal) admits(next seal) error {
	switch {
	case !now.signed:
		return nil
	case now.wrong != nil:
		return fmt.Errorf("%w: the present one's own signature is not good on this machine: %w", ErrPublisher, now.wrong)
	case now.publisher == "":
		return fmt.Errorf("%w: the present one's certificate names none", ErrPublisher)
	case !next.signed:
		return fmt.Errorf("%w: %s has signed the present one, nobody the new one", ErrPublisher, now.publisher)
	case next.wrong != nil:
		return fmt.Errorf("%w: the new one's signature is not good on this machine: %w", ErrPublisher, next.wrong)
	case next.publisher != now.publisher:
		return fmt.Errorf("%w: %s has signed the present one, %s the new one", ErrPublisher, now.publisher, next.publisher)
	}
	return nil
}

// judge gives what says why the program at a path may not follow the present one; nil if nothing is asked of it.
func (u *Updater) judge() (func(path string) error, error) {
	if u.AnyPublisher {
		return nil, nil
	}
	look := u.sealOf
	if look == nil {
		look = sealOf
	}
	now, err := look(u.Program)
	if err != nil || !now.signed {
		return nil, err
	}
	return func(path string) error {
		u.say("see whether the new program has the publisher of the present one: %s", now.publisher)
		next, err := look(path)
		if err != nil {
			return err
		}
		return now.admits(next)
	}, nil
}

// admitted says why the program at path may not follow the present one.
func (u *Updater) admitted(path string) error {
	admits, err := u.judge()
	if err != nil || admits == nil {
		return err
	}
	return admits(path)
}

// Admits says why a program may not follow the present one, for a dry run: it puts nothing beside that. Update asks by itself.
func (u *Updater) Admits(program []byte) error {
	admits, err := u.judge()
	if err != nil || admits == nil {
		return err
	}
	f, err := os.CreateTemp("", "sallyport-*.exe")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(program)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return admits(f.Name())
}

// peSecurity is the entry of a program's data directory for its signatures (Microsoft PE format, "Certificate Table").
const peSecurity = 4

// isSigned says whether a program for Windows has a signature in it, be it good or not.
func isSigned(path string) (bool, error) {
	f, err := pe.Open(path)
	if err != nil {
		return false, fmt.Errorf("look for a signature in %s: %w", path, err)
	}
	defer f.Close()
	switch h := f.OptionalHeader.(type) {
	case *pe.OptionalHeader64:
		return h.NumberOfRvaAndSizes > peSecurity && h.DataDirectory[peSecurity].Size > 0, nil
	case *pe.OptionalHeader32:
		return h.NumberOfRvaAndSizes > peSecurity && h.DataDirectory[peSecurity].Size > 0, nil
	}
	return false, nil
}
