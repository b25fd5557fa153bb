package update

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// owned has nothing to do: the folder's access list counts for what is made in it.
func owned(string, fs.FileInfo) error { return nil }

// swap keeps the present program as the old one and puts the staged one into its place. A program that runs cannot be
// replaced, but renamed. Between the two renames nothing lies in the place; who is killed right there leaves the old one,
// whole, as sallyport-agent.old.exe, and mend puts it back.
func (p place) swap() error {
	err := patiently(func() error { return os.Remove(p.old()) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; if it runs still, end it", err)
	}
	if err := move(p.program, p.old()); err != nil {
		return err
	}
	return move(p.staged(), p.program)
}

// move renames, and comes back when that is on the disk.
func move(from, to string) error {
	a, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	b, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	err = patiently(func() error { return windows.MoveFileEx(a, b, windows.MOVEFILE_WRITE_THROUGH) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// A program that was written or has ended a moment ago is often still held: by what scans it for viruses, or by Windows itself.
const (
	patience  = 5 * time.Second
	tryAgain  = 100 * time.Millisecond
	isHeld    = windows.ERROR_SHARING_VIOLATION
	isRunning = windows.ERROR_ACCESS_DENIED // so it is said of a program whose process has not quite gone
)

// patiently does something to a program again for as long as it is held, up to patience.
func patiently(do func() error) error {
	tick := time.NewTicker(tryAgain)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		err := do()
		if !errors.Is(err, isHeld) && !errors.Is(err, isRunning) || time.Now().After(end) {
			return err
		}
	}
}

// remove takes a program away. An update that was killed while it asked the program for its version may have left it running:
// then it is moved, which can be done, and sweep removes it when it has ended.
func (p place) remove(path string) error {
	p.sweep()
	err := patiently(func() error { return os.Remove(path) })
	if errors.Is(err, isHeld) || errors.Is(err, isRunning) {
		if err = move(path, p.failed()); err != nil {
			err = fmt.Errorf("%w; if it runs still, end it", err)
		}
	}
	return err
}

// failed is where a program goes that was not kept: its process may run still.
func (p place) failed() string { return p.beside("failed") }

// back puts the old program into its place again.
func (p place) back() error {
	if _, err := os.Stat(p.old()); err != nil {
		return err
	}
	p.sweep()
	if err := move(p.program, p.failed()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return move(p.old(), p.program)
}

// mend puts the old program back if nothing lies in its place.
func (p place) mend() error {
	if _, err := os.Stat(p.program); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := move(p.old(), p.program); err != nil {
		return fmt.Errorf("%s is missing, and the old program could not be put back: %w", p.program, err)
	}
	return nil
}

// sweep removes what was not kept. While it runs that cannot be done, and the next update does it.
func (p place) sweep() { _ = os.Remove(p.failed()) }
