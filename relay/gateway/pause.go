package gateway

import "time"

// ControlPause is the kind of the control message that carries a Pause, before a relay goes away.
const ControlPause = "pause"

// A Pause asks agents not to come back all at once: each waits a random time, up to Spread, before it dials for the link
// again.
type Pause struct {
	Spread time.Duration `json:"spread_ns"`
}

const (
	// comebacks is how many links a second a relay should have to take after its restart. Two cores make about twice as
	// many TLS handshakes, and there are callers too.
	comebacks = 500
	// mostSpread bounds how long an agent is kept away; what is beyond, its own backoff spreads.
	mostSpread = time.Minute
)

// pauseFor spreads so many links.
func pauseFor(links int) Pause {
	return Pause{Spread: min(time.Duration(links)*time.Second/comebacks, mostSpread)}
}
