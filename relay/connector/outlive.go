package connector

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"sallyport/relay/operation"
)

// Async says when the relay answers 202 in place of a call that takes long. The zero value defers the calls that ask for
// it with "Prefer: respond-async".
type Async struct {
	// After is how long a caller is held before its call is deferred; 0: only those that ask are.
	After time.Duration `json:"after,omitempty"`
	// Limit bounds a deferred call; 0: an hour.
	Limit time.Duration `json:"limit,omitempty"`
	// Off passes "Prefer" on to the API, and defers nothing.
	Off bool `json:"off,omitempty"`
}

// What repeats of a call are known by.
const (
	DedupeKey  = "idempotency-key" // the field Idempotency-Key
	DedupeFlow = "flow"            // x-ms-workflow-run-id and x-ms-action-tracking-id together
)

// Dedupe says which calls run once, however often they come.
type Dedupe struct {
	// By is what they are known by; empty: no call is.
	By string `json:"by,omitempty"`
	// For are the operations (see pattern); empty: every POST and PATCH.
	For []string `json:"for,omitempty"`
}

const (
	defaultAsyncLimit = time.Hour
	minAsyncAfter     = time.Second
)

// checkOutlive checks the settings of what outlives a caller.
func (c *Connector) checkOutlive(bad *Invalid) {
	a := c.Async
	if a.After != 0 && (a.After < minAsyncAfter || a.After > maxTimeout) {
		bad.add("async-after: %s is out of bounds (%s to %s, or off)", a.After, minAsyncAfter, maxTimeout)
	}
	if a.Limit < 0 || a.Limit > operation.MaxLimit || a.Limit != 0 && a.Limit < a.After {
		bad.add("async-limit: %s is out of bounds (above async-after, to %s)", a.Limit, operation.MaxLimit)
	}
	if a.Off && (a.After != 0 || a.Limit != 0) {
		bad.add("async-after: off and a time exclude each other")
	}
	if !slices.Contains([]string{"", DedupeKey, DedupeFlow}, c.Dedupe.By) {
		bad.add("dedupe: %q is not one of %s, %s", c.Dedupe.By, DedupeKey, DedupeFlow)
	}
	if c.Dedupe.By == "" && len(c.Dedupe.For) > 0 {
		bad.add("dedupe-for: say by what repeats are known: --dedupe %s or --dedupe %s", DedupeKey, DedupeFlow)
	}
	c.Dedupe.For = normalPatterns("dedupe-for", c.Dedupe.For, bad)
	c.Webhooks = normalPatterns("webhooks", c.Webhooks, bad)
}

func normalPatterns(what string, patterns []string, bad *Invalid) []string {
	if len(patterns) > maxPatterns {
		bad.add("%s: %d operations; a connector can have %d", what, len(patterns), maxPatterns)
		return nil
	}
	var out []string
	for _, s := range patterns {
		if _, err := parsePattern(s); err != nil {
			bad.add("%s: %.100q: %v", what, s, err)
			continue
		}
		if s = strings.Join(strings.Fields(s), " "); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// outliveDifferences are the settings of this file that differ, as Differences has them.
func (c *Connector) outliveDifferences(before *Connector, add func(setting, before, after string)) {
	list := func(l []string) string { return cmp.Or(strings.Join(l, "; "), "none") }
	after := func(a Async) string {
		switch {
		case a.Off:
			return "off"
		case a.After == 0:
			return "when asked for"
		}
		return a.After.String()
	}
	limit := func(a Async) string { return a.limit().String() }
	add("async-after", after(before.Async), after(c.Async))
	add("async-limit", limit(before.Async), limit(c.Async))
	add("dedupe", cmp.Or(before.Dedupe.By, "none"), cmp.Or(c.Dedupe.By, "none"))
	add("dedupe-for", list(before.Dedupe.For), list(c.Dedupe.For))
	add("webhooks", list(before.Webhooks), list(c.Webhooks))
}

func (a Async) limit() time.Duration { return cmp.Or(a.Limit, defaultAsyncLimit) }
