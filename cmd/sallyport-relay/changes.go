package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"sallyport/relay/admin"
	"sallyport/relay/definition"
)

// tracked says that the relay follows what makers have: its own definition, for Power Platform.
func (e exporting) tracked() bool { return e.file == "" && e.format == formatPower }

// changes are those since makers had the definition last; the error names those that break flows and apps, unless they are
// accepted.
func (e exporting) changes(ctx context.Context, client *admin.Client, gw, name string) ([]definition.Change, error) {
	if !e.tracked() {
		return nil, nil
	}
	c, err := client.Changes(ctx, gw, name)
	if err != nil {
		return nil, err
	}
	if c.Breaking > 0 && !e.acceptBreaking {
		return nil, fmt.Errorf("%d changes since the last export break flows and apps that use %s/%s:\n%sNothing is written. Mend the API's definition, or export with --accept-breaking",
			c.Breaking, gw, name, breakingList(c.Changes, maxBreaking))
	}
	return c.Changes, nil
}

// maxBreaking bounds how many breaking changes a message names, and maxShown how many connectors 'status' compares.
const (
	maxBreaking = 20
	maxShown    = 20
)

func breakingList(changes []definition.Change, most int) string {
	var b strings.Builder
	n := 0
	for _, c := range changes {
		if !c.Breaking {
			continue
		}
		if n++; n > most {
			fmt.Fprintf(&b, "  and %d more\n", breaking(changes)-most)
			break
		}
		fmt.Fprintf(&b, "  %s: %s\n", c.Operation, c.What)
	}
	return b.String()
}

// definitionState says which definition there is, what an export would lose of it, and whether makers know it.
func (p *program) definitionState(ctx context.Context, client *admin.Client, c admin.Published) string {
	if c.Definition == nil {
		return "none"
	}
	s := fmt.Sprintf("%.19s, %d bytes, %s", c.Definition.Digest, c.Definition.Size, definitionAge(c.Definition))
	if d, err := client.Definition(ctx, c.Gateway, c.Name); err != nil {
		s += "; it cannot be read: " + err.Error()
	} else if doc, err := definition.Parse(d.Body); err != nil {
		s += "; it cannot be exported: " + err.Error()
	} else if f, err := definition.PowerPlatform(doc, definition.Target{URL: c.URL, Gateway: c.Gateway, Name: c.Name}); err != nil {
		s += "; it cannot be exported: " + err.Error()
	} else {
		s += fmt.Sprintf("; %s, %d operations, %d kinds of losses in an export", doc.Form, len(f.Operations), len(f.Report.Losses)+len(f.Report.Steps))
	}
	return s + "; " + changedSince(ctx, client, c)
}

// changedSince says in words whether makers know the definition.
func changedSince(ctx context.Context, client *admin.Client, c admin.Published) string {
	switch {
	case c.Exported == nil:
		return "not exported yet"
	case !c.Changed():
		return "as exported"
	}
	changes, err := client.Changes(ctx, c.Gateway, c.Name)
	switch {
	case err != nil:
		return "CHANGED since it was exported; what breaks is not known: " + err.Error()
	case changes.Breaking > 0:
		return fmt.Sprintf("CHANGED since it was exported, %d changes are BREAKING", changes.Breaking)
	}
	return fmt.Sprintf("changed since it was exported, nothing breaks (%d changes)", len(changes.Changes))
}

// printDefinitions is the part of 'status' about the APIs' definitions. What breaks is worked out for a few connectors.
func (p *program) printDefinitions(ctx context.Context, w io.Writer, client *admin.Client, list []admin.Published) {
	var rows, broken []string
	compared := 0
	for _, c := range list {
		path := c.Gateway + "/" + c.Name
		if c.Definition == nil {
			rows = append(rows, path+"\tnone\t\t\t")
			continue
		}
		state := "changed since it was exported"
		if !c.Changed() || compared < maxShown {
			state = changedSince(ctx, client, c)
		}
		if c.Changed() {
			compared++
		}
		if strings.Contains(state, "BREAKING") {
			if changes, err := client.Changes(ctx, c.Gateway, c.Name); err == nil {
				broken = append(broken, fmt.Sprintf("%s:\n%s", path, breakingList(changes.Changes, maxBreaking)))
			}
		}
		rows = append(rows, fmt.Sprintf("%s\t%.19s\t%d\t%s\t%s", path, c.Definition.Digest, c.Definition.Size, definitionAge(c.Definition), state))
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(w)
	table(w, "CONNECTOR\tDEFINITION\tBYTES\tAGE\tMAKERS HAVE IT", rows)
	for _, b := range broken {
		fmt.Fprintf(w, "\nWARNING: flows and apps break with the definition of %s", b)
	}
}
