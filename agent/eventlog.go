package agent

import (
	"encoding/json"
	"errors"
	"log/slog"

	"sallyport/agent/audit"
	"sallyport/internal/eventlog"
)

// RecordEvents are what lines of the record are in Windows' event log, if audit.event_log wants them there. An ID is never given
// to anything else. Message is the kind of line, About for the admin.
func RecordEvents() []eventlog.Event {
	return []eventlog.Event{
		{ID: recordCall, Message: "call", About: "A call was allowed (`verdict`), or an API's definition has left for the relay."},
		{ID: recordRefused, Message: "call, refused", About: "A call was refused; `problem` and `detail` say why. Look into many of them: `sallyport-agent audit show --refused`."},
		{ID: recordDone, Message: "done", About: "What came of a call that was allowed."},
		{ID: recordFailed, Message: "done, with a problem", About: "A call that was allowed went wrong; `problem` says how."},
		{ID: recordAgent, Message: "start, stop, join, key, policy, pause, resume", About: "What became of the agent."},
		{ID: recordSealed, Message: "begin, seal, checkpoint", About: "What the record says of itself. A seal (`head`, `sig`) vouches for every line before it."},
		{ID: recordWrong, Message: "gap, repair, broken", About: "Lines are missing from the record or were changed: `sallyport-agent audit verify`."},
	}
}

// IDs of RecordEvents.
const (
	recordCall    = 300
	recordRefused = 301
	recordDone    = 302
	recordFailed  = 303
	recordAgent   = 310
	recordSealed  = 320
	recordWrong   = 321
)

// auditRefusals is the audit.event_log that leaves out what went as it should.
const auditRefusals = "refusals"

// newEventLog makes the forwarder of the record to Windows' event log; nil if none is wanted.
func newEventLog(c *Config, d Deps) (*eventlog.Forwarder, error) {
	switch {
	case c.Audit.EventLog == "":
		return nil, nil
	case d.EventLog == nil:
		return nil, errors.New("audit.event_log: only Windows has an event log; take the line out, or use audit.syslog")
	}
	return eventlog.NewForwarder(d.EventLog, d.Log), nil
}

// recordEvent says which event a line of the record is; usual is what is not worth looking at by itself.
func recordEvent(line []byte) (id uint32, level slog.Level, usual bool) {
	var e struct {
		Kind    audit.Kind `json:"event"`
		Verdict string     `json:"verdict"`
		Problem string     `json:"problem"`
	}
	if json.Unmarshal(line, &e) != nil {
		return recordWrong, slog.LevelWarn, false
	}
	switch e.Kind {
	case audit.Call, audit.Definition:
		if e.Verdict == audit.Refused {
			return recordRefused, slog.LevelWarn, false
		}
		return recordCall, slog.LevelInfo, true
	case audit.Done:
		if e.Problem != "" {
			return recordFailed, slog.LevelWarn, false
		}
		return recordDone, slog.LevelInfo, true
	case audit.Begin, audit.Seal, audit.Checkpoint:
		return recordSealed, slog.LevelInfo, true
	case audit.Gap, audit.Repair, audit.Broken:
		return recordWrong, slog.LevelWarn, false
	}
	return recordAgent, slog.LevelInfo, false
}
