package agent

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"sallyport/agent/link"
)

// Pulse asks the running agent how it is, and gives its answer in a line for an admin: "2 links to relay.example.com, 3 APIs".
// The answer comes from the loop that keeps the status and takes the locks of links and policy, so there is none when the agent
// has come to a halt; a supervisor may start it anew then. A relay that cannot be reached is no such halt.
func (a *Agent) Pulse(ctx context.Context) (string, error) {
	answer := make(chan string, 1)
	select {
	case a.pulses <- answer:
	case <-ctx.Done():
		return "", errors.New("the agent's loop takes no question")
	}
	select {
	case text := <-answer:
		return text, nil
	case <-ctx.Done():
		return "", errors.New("the agent's loop is stuck")
	}
}

// line is the answer to Pulse.
func (a *Agent) line() string {
	snap, told := a.now.Load(), a.told.Load()
	text := linksLine(a.config.Relay, a.links.Status()) + fmt.Sprintf(", %d %s", len(snap.names), plural(len(snap.names), "API"))
	paused := 0
	for _, name := range snap.names {
		if told.paused(name) {
			paused++
		}
	}
	if paused > 0 {
		text += fmt.Sprintf(" (%d paused)", paused)
	}
	a.status.mu.Lock()
	defer a.status.mu.Unlock()
	if a.status.problem != "" {
		text += "; agent.yaml as it is now is wrong and not in force"
	}
	return text
}

func linksLine(relay string, links []link.Status) string {
	host := relay
	if u, err := url.Parse(relay); err == nil && u.Host != "" {
		host = u.Host
	}
	up, why := 0, ""
	for _, l := range links {
		switch {
		case l.State == link.StateUp:
			up++
		case l.Reason != "":
			why = ": " + l.Reason
		case why == "":
			why = ": " + l.State
		}
	}
	switch up {
	case 0:
		return "no link to " + host + why
	case len(links):
		return fmt.Sprintf("%d %s to %s", up, plural(up, "link"), host)
	}
	return fmt.Sprintf("%d of %d links to %s", up, len(links), host)
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}
