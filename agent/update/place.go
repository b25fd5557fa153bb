package update

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// A place is the path of the program, with the files that an update has beside it:
//
//	sallyport-agent              always complete; on Windows see swap
//	sallyport-agent.new          the next one, until it is in its place
//	sallyport-agent.old          the one before, for 'update --back' and for a rollback
//	sallyport-agent.failed.exe   on Windows, one that was not kept, for as long as it may run
//	sallyport-agent.update.json  the journal, while an update is under way
//	sallyport-agent.refused.json what was rolled back last, so that a schedule does not try it again
//
// On Windows the first three end in .exe too, so that the old one can be started if need be: sallyport-agent.old.exe.
type place struct{ program string }

func (p place) beside(word string) string {
	base, exe := strings.CutSuffix(p.program, ".exe")
	if exe {
		return base + "." + word + ".exe"
	}
	return base + "." + word
}

func (p place) staged() string { return p.beside("new") }

func (p place) old() string { return p.beside("old") }

func (p place) journal() string { return strings.TrimSuffix(p.program, ".exe") + ".update.json" }

func (p place) refused() string { return strings.TrimSuffix(p.program, ".exe") + ".refused.json" }

// Mend is for a program that an admin has started as the old one, because an update on Windows was cut off: if nothing lies
// in the place, it goes there itself.
func Mend(self string) error {
	base, old := strings.CutSuffix(self, ".old.exe")
	if !old {
		return nil
	}
	return place{base + ".exe"}.mend()
}

// stage writes the next program, with the mode of the present one, and has it on the disk.
func (p place) stage(program []byte) error {
	if err := p.unstage(); err != nil {
		return err
	}
	info, err := os.Stat(p.program)
	if err != nil {
		return err
	}
	err = write(p.staged(), program, info.Mode().Perm())
	if err == nil {
		err = owned(p.staged(), info)
	}
	if err != nil {
		return errors.Join(err, p.unstage())
	}
	return nil
}

// write makes a file that was not there, on the disk. No process that is started meanwhile inherits it: a program that is open
// for writing somewhere cannot be run.
func write(path string, data []byte, mode fs.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

// unstage removes what an update that was given up has left.
func (p place) unstage() error {
	if err := p.remove(p.staged()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readOld gives the program of the version before.
func (p place) readOld() ([]byte, error) {
	f, err := os.Open(p.old())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return whole(f)
}
