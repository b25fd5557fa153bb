package connector

import (
	"time"

	"sallyport/tunnel"
)

// An Event is the record of one call, for the access log. It holds no query, no byte of a body, and of the fields
// the IDs alone by which a flow's run is found.
type Event struct {
	Time      time.Time
	ID        string // request ID, the same as in every error and in the agent's record
	Gateway   string
	Connector string
	Key       string // name of the key that the caller showed
	Principal string // who the caller proved to be: "key:flow-prod", "user:alice", "entra:TENANT/OBJECT"; joined with " "
	Client    string // the application whose token the caller showed
	Remote    string // the caller's address
	Proto     string
	Method    string
	Path      string // as the caller sent it, without the query
	Status    int
	Code      string // of the problem, "" if the upstream answered
	Origin    string // who said no: relay, agent or upstream
	Executed  string // of the problem: no or unknown
	Broken    bool   // the answer broke off after its head
	In, Out   int64  // body bytes from and to the caller
	Agent     string // which agent answered
	CallerID  string // the caller's own X-Request-Id
	FlowRun   string // the Power Automate run
	Flow      []tunnel.FlowID
	Operation string // request ID of the call that was deferred, or whose answer was given
	Trace     Trace  // its place in a distributed trace, if it has one
	Took      Took
}

// Took is where the time of a call went.
type Took struct {
	Total    time.Duration
	Relay    time.Duration // before the request left: authentication, reading a small body
	Wait     time.Duration // for an agent that should be back soon; 0: a link was there
	Link     time.Duration // on the way there and back, and a large body's upload
	Agent    time.Duration // inside the agent
	Auth     time.Duration // Windows authentication
	Upstream time.Duration // from the request written to the head of the answer
	Answer   time.Duration // the answer's body, from its head to its end
}
