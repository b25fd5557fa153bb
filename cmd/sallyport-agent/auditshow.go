package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent/audit"
	"sallyport/configs"
)

// A recordFilter is which events 'audit show' shows.
type recordFilter struct {
	since                         time.Duration
	principal, operation, flowRun string
	refused, asJSON, follow       bool

	// shown are the calls that fit and of which the outcome has not come yet, by request; those that fit but for their age too.
	shown map[string]struct{}
}

// maxShown bounds the calls whose outcome is waited for. Outcomes beyond it are not shown.
const maxShown = 100_000

func (p *program) auditShowCommand() *cobra.Command {
	var f recordFilter
	c := &cobra.Command{
		Use: "show", Short: "Show what is on record", Args: exactly(0, 0, ""),
		Long: `Prints the events on record, the oldest first, those of files that were set aside too. A call that was allowed has two: the verdict
(call), and what came of it (done). Flags narrow it, and all of them have to fit; an outcome is shown if its call fits. It reads beside a running agent and does not prove that the record is whole: 'audit verify' does.`,
		Example: `  sallyport-agent audit show --since 2h --refused
  sallyport-agent audit show --principal key:flow --operation 'GET /orders'
  sallyport-agent audit show --flow-run 08584 --json
  sallyport-agent audit show --since 1m --follow`,
		RunE: does(func(ctx context.Context, _ []string) error { return p.auditShow(ctx, f) }),
	}
	c.Flags().Var((*configs.Span)(&f.since), "since", "only what is not older than this: 2h, 30m")
	c.Flags().StringVar(&f.principal, "principal", "", "only calls of this principal, or of this caller in the relay's words")
	c.Flags().StringVar(&f.operation, "operation", "", "only calls whose method and path, or whose rule, begin so: 'GET /orders'")
	c.Flags().StringVar(&f.flowRun, "flow-run", "", "only calls of the flow's run with this ID")
	c.Flags().BoolVar(&f.refused, "refused", false, "only what was refused")
	c.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with what is recorded, until Ctrl-C")
	c.Flags().BoolVar(&f.asJSON, "json", false, "the lines as they are on record")
	return c
}

func (p *program) auditShow(ctx context.Context, f recordFilter) error {
	c, _, wrong, err := p.toldBy()
	if err != nil {
		return err
	}
	p.warnWrong(wrong)
	dir, err := p.stateDir(c)
	if err != nil {
		return err
	}
	now := time.Now()
	read := audit.Events
	if f.follow {
		read = audit.Follow
	}
	skipped, err := read(ctx, dir, func(line []byte, e audit.Event) error {
		if !f.fits(e, now) {
			return nil
		}
		var err error
		if f.asJSON {
			_, err = fmt.Fprintf(p.out, "%s\n", bytes.TrimSuffix(line, []byte("\n")))
		} else {
			_, err = fmt.Fprintln(p.out, eventText(e))
		}
		return err
	})
	if err == nil && skipped > 0 {
		_, err = fmt.Fprintf(p.err, "%d lines could not be read; see: sallyport-agent audit verify\n", skipped)
	}
	return err
}

func (f *recordFilter) fits(e audit.Event, now time.Time) bool {
	young := f.since == 0 || !e.Time.Before(now.Add(-f.since))
	if e.Kind == audit.Done {
		_, fits := f.shown[e.Request]
		delete(f.shown, e.Request)
		return young && (fits || !f.narrow())
	}
	if !f.fitsCall(e) {
		return false
	}
	if e.Kind == audit.Call && e.Verdict == audit.Allowed && e.Status == 0 && len(f.shown) < maxShown {
		if f.shown == nil {
			f.shown = map[string]struct{}{}
		}
		f.shown[e.Request] = struct{}{}
	}
	return young
}

// narrow reports whether the filter looks at more than the time.
func (f *recordFilter) narrow() bool {
	return f.principal != "" || f.operation != "" || f.flowRun != "" || f.refused
}

func (f *recordFilter) fitsCall(e audit.Event) bool {
	operation := e.Method + " " + e.Path
	switch {
	case f.principal != "" && e.Principal != f.principal && e.Caller != f.principal,
		f.operation != "" && (e.Method == "" || !strings.HasPrefix(operation, f.operation) && !strings.HasPrefix(e.Rule, f.operation)),
		f.flowRun != "" && e.Flow["workflow-run-id"] != f.flowRun,
		f.refused && e.Verdict != audit.Refused:
		return false
	}
	return true
}

// eventText is an event for people. What a stranger chose is quoted if it could mean something to a terminal.
func eventText(e audit.Event) string {
	words := []string{e.Time.Local().Format("2006-01-02 15:04:05"), string(e.Kind), e.Verdict, e.API, e.Method, e.Path}
	if e.Status != 0 {
		words = append(words, strconv.Itoa(e.Status))
	}
	words = append(words, e.Problem, cmp.Or(e.Principal, e.Caller), e.Request)
	if e.Method == "" {
		words = append(words, e.Detail, e.Hash, e.Key)
	}
	var b strings.Builder
	for _, w := range words {
		if w == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if q := strconv.QuoteToASCII(w); q != `"`+w+`"` {
			w = q
		}
		b.WriteString(w)
	}
	return b.String()
}
