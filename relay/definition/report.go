package definition

import (
	"fmt"
	"slices"
	"strings"
)

// A Loss is a kind of thing that the output cannot say as the input did, and where.
type Loss struct {
	// What was lost, and what stands in its place.
	What string `json:"what"`
	// Count is how often; Places are JSON pointers into the input, the first maxPlaces of them.
	Count  int      `json:"count"`
	Places []string `json:"places"`
}

const (
	// maxPlaces bounds the places of one loss, maxLosses the kinds: a report is for people.
	maxPlaces = 50
	maxLosses = 500
)

// A Report lists what became of a definition on its way.
type Report struct {
	// Losses are in the order in which they were met.
	Losses []Loss `json:"losses"`
	// Steps were taken to bring the definition below Power Platform's limits, in their order.
	Steps []string `json:"steps"`
}

func (r *Report) lose(place, format string, v ...any) {
	what := fmt.Sprintf(format, v...)
	i := slices.IndexFunc(r.Losses, func(l Loss) bool { return l.What == what })
	if i < 0 {
		if len(r.Losses) >= maxLosses {
			what = "other losses, of kinds too many to list"
			if i = slices.IndexFunc(r.Losses, func(l Loss) bool { return l.What == what }); i < 0 {
				r.Losses = append(r.Losses, Loss{What: what})
				i = len(r.Losses) - 1
			}
		} else {
			r.Losses = append(r.Losses, Loss{What: what})
			i = len(r.Losses) - 1
		}
	}
	l := &r.Losses[i]
	l.Count++
	if len(l.Places) < maxPlaces && !slices.Contains(l.Places, place) {
		l.Places = append(l.Places, place)
	}
}

// String is the report for people.
func (r *Report) String() string {
	var b strings.Builder
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "- To stay within the limits: %s.\n", s)
	}
	for _, l := range r.Losses {
		fmt.Fprintf(&b, "- %s", l.What)
		if l.Count > 1 {
			fmt.Fprintf(&b, " (%d times)", l.Count)
		}
		b.WriteString("\n")
		for i, p := range l.Places {
			if i == 5 {
				fmt.Fprintf(&b, "    and %d more\n", l.Count-i)
				break
			}
			fmt.Fprintf(&b, "    %s\n", p)
		}
	}
	return b.String()
}
