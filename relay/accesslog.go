package relay

import (
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"sallyport/internal/backlog"
	"sallyport/internal/jsonline"
	"sallyport/relay/connector"
	"sallyport/tunnel"
)

const (
	// accessQueue bounds the lines that wait for the disk or the pipe, in bytes.
	accessQueue = 4 << 20
	// accessDelay is how long a line waits for others to be written with it. A crash of the process loses so much.
	accessDelay = 50 * time.Millisecond
	// accessCheck is how often a file is looked at, whether it was moved away.
	accessCheck = time.Second
)

// An accessLog writes a line for each call. Who records never waits for the writing: lines gather in memory, and those
// that find it full are dropped and counted.
type accessLog struct {
	log  *slog.Logger
	path string // "" unless out is a file that can be moved away
	out  io.Writer
	file *os.File

	stop chan struct{}
	done chan struct{}

	queue *backlog.Backlog[byte] // whole lines
	lost  atomic.Uint64          // lines, since the start
	told  uint64                 // run's own: of how many of them the log has spoken
}

// openAccessLog opens the log. to is a file, or stdout, stderr; nil for off.
func openAccessLog(to string, log *slog.Logger) (*accessLog, error) {
	a := newAccessLog(log)
	switch to {
	case "off":
		return nil, nil
	case "", "stdout":
		a.out = os.Stdout
	case "stderr":
		a.out = os.Stderr
	default:
		a.path = to
		if err := a.reopen(); err != nil {
			return nil, err
		}
	}
	go a.run() // close waits for it
	return a, nil
}

func newAccessLog(log *slog.Logger) *accessLog {
	return &accessLog{log: log, stop: make(chan struct{}), done: make(chan struct{}), queue: backlog.New[byte](accessQueue)}
}

func (a *accessLog) reopen() error {
	f, err := os.OpenFile(a.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open the access log: %w", err)
	}
	if a.file != nil {
		_ = a.file.Close()
	}
	a.file, a.out = f, f
	return nil
}

// record adds a line, which ends with a newline.
func (a *accessLog) record(line []byte) {
	if !a.queue.Add(line...) {
		a.lost.Add(1)
	}
}

// close writes what waits and ends.
func (a *accessLog) close() {
	close(a.stop)
	<-a.done
	if a.file != nil {
		_ = a.file.Close()
	}
}

func (a *accessLog) run() {
	defer close(a.done)
	var buf []byte
	var checked time.Time
	for {
		stopping := false
		select {
		case <-a.queue.Waiting():
			a.queue.Gather(accessDelay, a.stop)
		case <-a.stop:
			stopping = true
		}
		if now := time.Now(); a.path != "" && now.Sub(checked) > accessCheck {
			checked = now
			a.follow()
		}
		buf = a.write(buf)
		if stopping {
			return
		}
	}
}

// write writes what waits and gives the buffer for what comes meanwhile.
func (a *accessLog) write(empty []byte) []byte {
	full := a.queue.Take(empty)
	if lost := a.lost.Load(); lost > a.told {
		a.log.Warn("lines of the access log were dropped: it is written too slowly", "lines", lost-a.told)
		a.told = lost
	}
	if len(full) > 0 {
		if _, err := a.out.Write(full); err != nil {
			a.log.Error("the access log cannot be written", "cause", err, "bytes", len(full))
		}
	}
	if cap(full) > accessQueue/4 {
		return nil // a burst is over; its memory goes back
	}
	return full
}

// follow makes the file anew if it was moved away.
func (a *accessLog) follow() {
	here, err := os.Stat(a.path)
	mine, err2 := a.file.Stat()
	if err == nil && err2 == nil && os.SameFile(here, mine) {
		return
	}
	if err := a.reopen(); err != nil {
		a.log.Error("the access log cannot be made anew; the old file stays in use", "cause", err)
	}
}

// appendEvent writes e as one JSON object and a newline. By hand, because it runs for each call.
func appendEvent(b []byte, e *connector.Event) []byte {
	b = append(b, `{"time":"`...)
	b = e.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, '"')
	for _, f := range [...]struct{ name, value string }{
		{"id", e.ID},
		{"gateway", e.Gateway},
		{"connector", e.Connector},
		{"key", e.Key},
		{"remote", e.Remote},
		{"proto", e.Proto},
		{"method", e.Method},
		{"path", e.Path},
	} {
		b = jsonline.AppendText(b, f.name, f.value)
	}
	b = jsonline.AppendInt(b, "status", int64(e.Status))
	b = jsonline.AppendInt(b, "in", e.In)
	b = jsonline.AppendInt(b, "out", e.Out)
	for _, f := range [...]struct{ name, value string }{
		{"code", e.Code},
		{"origin", e.Origin},
		{"executed", e.Executed},
		{"agent", e.Agent},
		{"callerId", e.CallerID},
		{"flowRun", e.FlowRun},
		{"operation", e.Operation},
		{"principal", e.Principal},
		{"client", e.Client},
	} {
		if f.value != "" {
			b = jsonline.AppendText(b, f.name, f.value)
		}
	}
	if !e.Trace.IsZero() {
		b = jsonline.AppendText(b, "trace", hex.EncodeToString(e.Trace.ID[:]))
	}
	b = appendFlow(b, e.Flow)
	if e.Broken {
		b = append(b, `,"broken":true`...)
	}
	b = append(b, `,"ms":{"total":`...)
	b = appendMillis(b, e.Took.Total)
	for _, f := range [...]struct {
		name string
		took time.Duration
	}{
		{"relay", e.Took.Relay},
		{"link", e.Took.Link},
		{"agent", e.Took.Agent},
		{"auth", e.Took.Auth},
		{"upstream", e.Took.Upstream},
		{"answer", e.Took.Answer},
	} {
		b = appendMillis(jsonline.AppendName(b, f.name), f.took)
	}
	if e.Took.Wait > 0 {
		b = appendMillis(jsonline.AppendName(b, "wait"), e.Took.Wait)
	}
	return append(b, '}', '}', '\n')
}

// appendFlow writes the flow's own IDs as an object; their names and values are plain text (tunnel.FlowIDs).
func appendFlow(b []byte, ids []tunnel.FlowID) []byte {
	if len(ids) == 0 {
		return b
	}
	b = append(b, `,"flow":{`...)
	for i, id := range ids {
		begin := len(b)
		b = jsonline.AppendText(b, id.Name, id.Value)
		if i == 0 {
			b = append(b[:begin], b[begin+1:]...) // without the comma
		}
	}
	return append(b, '}')
}

// appendMillis writes milliseconds with up to three decimals, as strconv.AppendFloat would and in a fifth of its time.
func appendMillis(b []byte, d time.Duration) []byte {
	us := d.Microseconds()
	if us < 0 {
		b, us = append(b, '-'), -us
	}
	b = strconv.AppendInt(b, us/1000, 10)
	if us %= 1000; us == 0 {
		return b
	}
	b = append(b, '.', '0'+byte(us/100), '0'+byte(us/10%10), '0'+byte(us%10))
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}
