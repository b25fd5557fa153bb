package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/configs"
	"sallyport/relay/admin"
)

func (p *program) logCommand() *cobra.Command {
	var query admin.LogQuery
	since := "1h"
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show the calls that the relay has carried, or what admins did",
		Long: `Shows what the relay keeps on record, oldest first: its calls (--kind access, the default; a call is there when it has
ended), or what admins did (--kind admin). How much is kept says access_log and admin_log in the configuration. With
--json the events are printed as they are kept, one JSON object a line, for export.`,
		Example: `  sallyport-relay log --since 15m --status 5xx
  sallyport-relay log --follow --gateway plant1 --connector orders
  sallyport-relay log --kind admin --since 30d
  sallyport-relay log --since 30d --json > calls.jsonl`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			age, err := configs.ParseDuration(since)
			if err != nil || age < 0 {
				return usagef("--since: %q is no time (write 15m, 2h or 7d)", since)
			}
			if !slices.Contains([]string{admin.KindAccess, admin.KindAdmin}, query.Kind) {
				return usagef("--kind: %q is not one of access, admin", query.Kind)
			}
			query.Since = time.Now().Add(-age)
			c, err := p.client()
			if err != nil {
				return err
			}
			return p.showLog(cmd.Context(), c, query)
		},
	}
	f := cmd.Flags()
	f.StringVar(&query.Kind, "kind", admin.KindAccess, "`which` events: access or admin")
	f.StringVar(&since, "since", since, "how far `back`: 15m, 2h, 7d")
	f.BoolVarP(&query.Follow, "follow", "f", false, "go on with what comes, until Ctrl-C")
	f.StringVar(&query.Gateway, "gateway", "", "only this `gateway`")
	f.StringVar(&query.Connector, "connector", "", "only this `connector`, by its name")
	f.StringVar(&query.Status, "status", "", "only calls with this `status`: 403, or 5xx")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{admin.KindAccess, admin.KindAdmin}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("gateway", p.completeGateways)
	return cmd
}

func (p *program) showLog(ctx context.Context, c *admin.Client, query admin.LogQuery) error {
	show := showCall
	if query.Kind == admin.KindAdmin {
		show = showChange
	}
	err := c.Log(ctx, query, func(event []byte) error {
		if p.json {
			_, err := fmt.Fprintf(p.out, "%s\n", event)
			return err
		}
		return show(p.out, event)
	})
	if err != nil || ctx.Err() != nil {
		return err
	}
	if query.Follow {
		return errors.New("the relay has stopped, and the following with it")
	}
	// Somebody who looks for a call must know that some are missing.
	if s, err := c.Status(ctx); err == nil && s.LogDropped > 0 {
		fmt.Fprintf(p.err, "sallyport-relay: %d events were not kept since the relay's start; its log says why\n", s.LogDropped)
	}
	return nil
}

// aCall is what people are shown of a call.
type aCall struct {
	Time      time.Time `json:"time"`
	ID        string    `json:"id"`
	Gateway   string    `json:"gateway"`
	Connector string    `json:"connector"`
	Key       string    `json:"key"`
	Principal string    `json:"principal"`
	Remote    string    `json:"remote"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Status    int       `json:"status"`
	Code      string    `json:"code"`
	Origin    string    `json:"origin"`
	Broken    bool      `json:"broken"`
	Ms        struct {
		Total float64 `json:"total"`
	} `json:"ms"`
}

// showCall writes one line. What callers chose, the path above all, can hold anything and is made fit for a terminal.
func showCall(w io.Writer, event []byte) error {
	var c aCall
	if err := json.Unmarshal(event, &c); err != nil {
		return fmt.Errorf("read an event: %w", err)
	}
	by := ""
	if c.Principal != "" && c.Principal != "key:"+c.Key { // a key's name stands there already
		by = " by=" + c.Principal
	}
	said := ""
	if c.Code != "" {
		said = " " + c.Code + " (" + c.Origin + ")"
	}
	if c.Broken {
		said += " broken off"
	}
	_, err := fmt.Fprintf(w, "%s %d %s %s %.1fms key=%s%s from=%s id=%s%s\n", stamp(c.Time), c.Status, plainText(c.Method), plainText(c.Path),
		c.Ms.Total, cmp.Or(plainText(c.Key), "-"), plainText(by), plainText(c.Remote), plainText(c.ID), plainText(said))
	return err
}

func showChange(w io.Writer, event []byte) error {
	var c admin.Change
	if err := json.Unmarshal(event, &c); err != nil {
		return fmt.Errorf("read an event: %w", err)
	}
	line := fmt.Sprintf("%s %s %s: %s", stamp(c.Time), c.Actor, c.Outcome, c.Event)
	names := make([]string, 0, len(c.On))
	for name := range c.On {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value, err := json.Marshal(c.On[name])
		if err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		line += " " + name + "=" + strings.Trim(string(value), `"`)
	}
	if c.Detail != "" {
		line += " (" + c.Detail + ")"
	}
	_, err := fmt.Fprintln(w, plainText(line))
	return err
}

func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// plainText replaces what a terminal could act on.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
