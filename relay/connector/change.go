package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport/configs"
	"sallyport/relay/store"
)

// A Difference is a setting of a connector that a change gives another value, in the words of the command line.
type Difference struct {
	Setting string `json:"setting"`
	Before  string `json:"before"`
	After   string `json:"after"`
}

// Settings are all settings of a connector.
func (c *Connector) Settings() []Difference {
	return c.differences(&Connector{}, func(Difference) bool { return true })
}

// Differences are the settings in which c differs from before.
func (c *Connector) Differences(before *Connector) []Difference {
	return c.differences(before, func(d Difference) bool { return d.Before != d.After })
}

func (c *Connector) differences(before *Connector, wanted func(Difference) bool) []Difference {
	out := []Difference{}
	add := func(setting, before, after string) {
		if d := (Difference{setting, before, after}); wanted(d) {
			out = append(out, d)
		}
	}
	list := func(l []string) string { return cmp.Or(strings.Join(l, ", "), "none") }
	size := func(n int64) string {
		if n == 0 {
			return "the relay's"
		}
		return configs.Size(n).String()
	}
	hold := func(d time.Duration) string {
		if d == 0 {
			return "the relay's"
		}
		return d.String()
	}
	count := func(n int) string {
		if n == 0 {
			return "the relay's"
		}
		return strconv.Itoa(n)
	}
	add("API", before.API, c.API)
	add("auth", list(before.Auth), list(c.Auth))
	add("header", cmp.Or(before.KeyHeader, defaultKeyHeader), cmp.Or(c.KeyHeader, defaultKeyHeader))
	add("query", cmp.Or(before.KeyQuery, "none"), cmp.Or(c.KeyQuery, "none"))
	add("from", list(Networks(before.From)), list(Networks(c.From)))
	if c.PasswordAlone || before.PasswordAlone {
		add("password-alone", strconv.FormatBool(before.PasswordAlone), strconv.FormatBool(c.PasswordAlone))
	}
	if c.OAuth2.Set() || before.OAuth2.Set() {
		c.OAuth2.Compare(before.OAuth2, add)
	}
	add("host", list(before.Hosts), list(c.Hosts))
	add("cors-origin", list(before.CORSOrigins), list(c.CORSOrigins))
	add("body-limit", size(before.BodyLimit), size(c.BodyLimit))
	add("timeout", hold(before.Timeout), hold(c.Timeout))
	add("rate", cmp.Or(before.Rate.String(), "none"), cmp.Or(c.Rate.String(), "none"))
	add("concurrent", count(before.Concurrent), count(c.Concurrent))
	add("outcome-unknown", before.OutcomeUnknown, c.OutcomeUnknown)
	c.outliveDifferences(before, add)
	return out
}

// Change gives a connector other settings, all of those in c. It stays the same connector: keys, ID and date remain, and
// calls under way go on. It fails with ErrUnknownConnector or a *Invalid. Before is what it was.
func (d *Directory) Change(ctx context.Context, c Connector) (before, after Connector, err error) {
	if c, err = d.check(c); err != nil {
		return before, c, err
	}
	err = d.entries.Update(ctx, c.path(), func(e entry) (entry, error) {
		before = e.Connector
		e, err := e.with(c)
		after = e.Connector
		return e, err
	})
	if errors.Is(err, store.ErrNotFound) {
		return before, c, unknownConnector(c.Gateway, c.Name)
	}
	if err != nil {
		return before, c, fmt.Errorf("change connector %s: %w", c.path(), err)
	}
	return before, after, nil
}

// PlanChange is Change without the change.
func (d *Directory) PlanChange(c Connector) (before, after Connector, err error) {
	if c, err = d.check(c); err != nil {
		return before, c, err
	}
	e, ok := d.entries.Get(c.path())
	if !ok {
		return before, c, unknownConnector(c.Gateway, c.Name)
	}
	changed, err := e.with(c)
	return e.Connector, changed.Connector, err
}

// PlanPublish is Publish without publishing.
func (d *Directory) PlanPublish(c Connector) (Connector, error) {
	c, err := d.check(c)
	if err != nil {
		return c, err
	}
	if _, exists := d.entries.Get(c.path()); exists {
		return c, isPublished(c)
	}
	return c, nil
}

func isPublished(c Connector) error {
	return fmt.Errorf("connector %s: %w; to change its settings and keep its keys, add --change", c.path(), ErrExists)
}

// with is the entry with the settings of c.
func (e entry) with(c Connector) (entry, error) {
	if len(e.Users) > 0 && !c.Takes(AuthBasic) {
		return e, &Invalid{Problems: []string{fmt.Sprintf("auth: the connector has %d users; remove them first, or keep --auth basic", len(e.Users))}}
	}
	if len(e.Keys) > 0 && !c.Takes(AuthKey) {
		return e, &Invalid{Problems: []string{fmt.Sprintf("auth: the connector has %d keys; revoke them first, or keep --auth key", len(e.Keys))}}
	}
	c.ID, c.Created = e.ID, e.Created
	e.Connector = c
	return e, nil
}
