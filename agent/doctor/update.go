package doctor

import (
	"time"

	"sallyport/agent/update"
)

// longUpdate is how old an update is that was certainly killed: it drains twice, and waits for a link twice.
const longUpdate = 15 * time.Minute

// update is an update of the program that was killed, if one was: nobody knows then whether what runs is to stay.
func (p *patient) update() (f Finding, there bool) {
	f = Finding{ID: "update", Tried: "an update of " + p.o.Program}
	if p.o.Program == "" {
		return f, false
	}
	from, to, began, there := update.Unfinished(p.o.Program)
	if age := time.Since(began); there && age < longUpdate {
		return f.ok("from %s to %s has been under way for %s", from, to, age.Round(time.Second)), true
	}
	return f.is(Warn, "the one from "+from+" to "+to+", begun "+began.Local().Format(time.DateTime)+", was cut off",
		"any 'sallyport-agent update' brings it to its end first: what links is kept, what does not is rolled back"), there
}
