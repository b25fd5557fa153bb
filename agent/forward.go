package agent

import (
	"context"
	"sync"

	"sallyport/internal/eventlog"
	"sallyport/internal/syslog"
)

// written gives each line that is in the file to those who get the record too; nil if nobody does.
func (a *Agent) written() func(line []byte) {
	toLog, toSyslog := a.eventLog, a.syslog
	switch all := a.config.Audit.EventLog != auditRefusals; {
	case toLog == nil && toSyslog == nil:
		return nil
	case toLog == nil:
		return func(line []byte) { toSyslog.Send(syslog.Record(), line) }
	default:
		return func(line []byte) {
			if toSyslog != nil {
				toSyslog.Send(syslog.Record(), line)
			}
			if id, level, usual := recordEvent(line); all || !usual {
				toLog.Send(eventlog.Line{ID: id, Level: level, Text: string(line)})
			}
		}
	}
}

// forward sends the record to those who get it too, until what it returns is called: when the last line is written.
func (a *Agent) forward(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	if a.syslog != nil {
		wg.Go(func() { _ = a.syslog.Run(ctx) }) // it has no error
	}
	if a.eventLog != nil {
		wg.Go(func() { a.eventLog.Run(ctx) })
	}
	return func() { cancel(); wg.Wait() }
}
