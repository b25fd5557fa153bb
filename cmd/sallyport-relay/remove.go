package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"sallyport/internal/hidden"
)

// removing is what a command is about to take away.
type removing struct {
	what     fmt.Stringer
	name     string // what a person has to type
	kind     string // what that is: "gateway's name"
	yes, dry bool
}

// remove asks if it has to, has it done, and says what was done. do gives the answer for scripts.
func (p *program) remove(ctx context.Context, r removing, do func() (any, error)) error {
	if !r.dry && !r.yes {
		if err := p.confirm(ctx, r); err != nil {
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
func (p *program) confirm(ctx context.Context, r removing) error {
	f, ok := p.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return usagef("this would remove %s; say --yes to do it without being asked, or --dry-run to look only", r.what)
	}
	fmt.Fprintf(p.err, "This removes %s.\nType the %s to go on: ", r.what, r.kind)
	if name, ok := p.line(ctx); !ok || name != r.name {
		return errors.New("nothing was removed")
	}
	return nil
}

// line is what is typed next; not ok if that ends, or ctx does.
func (p *program) line(ctx context.Context) (text string, ok bool) {
	in := bufio.NewReader(p.in)
	text, err := hidden.Await(ctx, func() (string, error) { return in.ReadString('\n') })
	if ctx.Err() != nil {
		fmt.Fprintln(p.err)
		return "", false
	}
	if err != nil {
		return "", false
	}
	return strings.TrimSpace(text), true
}
