package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// removing is what a command is about to take away.
type removing struct {
	what     fmt.Stringer
	name     string // what a person has to type
	kind     string // what that is: "gateway's name"
	yes, dry bool
}

// remove asks if it has to, has it done, and says what was done. do gives the answer for scripts.
func (p *program) remove(r removing, do func() (any, error)) error {
	if !r.dry && !r.yes {
		if err := p.confirm(r); err != nil {
			return err
		}
	}
	answer, err := do()
	if err != nil {
		return err
	}
	verb := "Removed"
	if r.dry {
		verb = "Would remove"
	}
	return p.print(answer, func(w io.Writer) { fmt.Fprintln(w, verb, r.what) })
}

// confirm asks the person at the terminal. A script is not asked: it has to say --yes.
func (p *program) confirm(r removing) error {
	f, ok := p.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return usagef("this would remove %s; say --yes to do it without being asked, or --dry-run to look only", r.what)
	}
	fmt.Fprintf(p.err, "This removes %s.\nType the %s to go on: ", r.what, r.kind)
	line, err := bufio.NewReader(p.in).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != r.name {
		return errors.New("nothing was removed")
	}
	return nil
}
