package main

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sallyport/configs"
	"sallyport/relay/connector"
)

// outliving are the flags of connector publish that are about calls which outlive their callers.
type outliving struct {
	after, dedupe       string
	limit               time.Duration
	dedupeFor, webhooks []string
}

func (o *outliving) flags(cmd *cobra.Command, f *pflag.FlagSet) {
	f.StringVar(&o.after, "async-after", "", "answer 202 after this `time` and keep the answer; off: never; default: callers that prefer respond-async")
	f.Var((*configs.Span)(&o.limit), "async-limit", "how `long` a call may go on that was answered 202 (default 1h)")
	f.StringVar(&o.dedupe, "dedupe", "", "run repeated calls once, known by: idempotency-key or flow")
	f.StringArrayVar(&o.dedupeFor, "dedupe-for", nil, "an `operation` whose repeats are known, such as 'POST /orders' (several: repeat); default: POST and PATCH")
	f.StringArrayVar(&o.webhooks, "webhooks", nil, "an `operation` that subscribes to a webhook, such as 'POST /hooks' (several: repeat)")
	_ = cmd.RegisterFlagCompletionFunc("dedupe", cobra.FixedCompletions([]string{connector.DedupeKey, connector.DedupeFlow}, cobra.ShellCompDirectiveNoFileComp))
}

// apply puts them into a connector.
func (o *outliving) apply(c *connector.Connector) error {
	c.Async.Limit = o.limit
	switch o.after {
	case "":
	case "off":
		c.Async.Off = true
	default:
		after, err := time.ParseDuration(o.after)
		if err != nil || after <= 0 {
			return usagef("--async-after: %q is neither a time such as 90s nor off", o.after)
		}
		c.Async.After = after
	}
	c.Dedupe = connector.Dedupe{By: o.dedupe, For: o.dedupeFor}
	c.Webhooks = o.webhooks
	return nil
}
