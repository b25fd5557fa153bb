// Package eventlog writes what is logged to Windows' event log: each warning and error, and those events that have an ID in a
// table. It knows nothing of Windows but three functions (a Sink), which golang.org/x/sys/windows/svc/eventlog has, and
// nothing of what the events mean. A Handler is for what is logged, a Forwarder for lines that must not hold up who sends them.
//
//	log := slog.New(eventlog.New(sink, events, level))
package eventlog

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
)

// An Event is what an admin can look for by its ID, which stays the same for ever.
type Event struct {
	// ID is 1 to 1000, the most that EventCreate.exe has a text for.
	ID uint32
	// Message is what the logged message begins with.
	Message string
	// About is for the admin: what it means, and what to do.
	About string
}

// IDs of what has none of its own.
const (
	OtherWarning = 2
	OtherError   = 3
)

// textLimit is less than the 31,839 characters that an event can have.
const textLimit = 30000

// A Sink takes events; that of golang.org/x/sys/windows/svc/eventlog does.
type Sink interface {
	Info(id uint32, text string) error
	Warning(id uint32, text string) error
	Error(id uint32, text string) error
}

// Handler is a slog.Handler.
type Handler struct {
	inner slog.Handler // writes the attributes to out.text
	out   *output
}

type output struct {
	sink   Sink
	events []Event
	level  slog.Leveler

	mu   sync.Mutex // guards what follows
	text bytes.Buffer
}

// New gives a handler for what has at least the level.
func New(sink Sink, events []Event, level slog.Leveler) *Handler {
	out := &output{sink: sink, events: events, level: level}
	bare := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{} // the event has them
		}
		return a
	}
	return &Handler{slog.NewTextHandler(&out.text, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: bare}), out}
}

// Enabled implements slog.Handler. Nothing below info is for the event log.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo && l >= h.out.level.Level()
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.inner.WithAttrs(attrs), h.out}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.inner.WithGroup(name), h.out}
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	id := h.out.id(r)
	if id == 0 {
		return nil
	}
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.text.Reset()
	if err := h.inner.Handle(ctx, r); err != nil {
		return err
	}
	return write(h.out.sink, Line{id, r.Level, strings.TrimSpace(r.Message + "\r\n\r\n" + h.out.text.String())})
}

// id is 0 for what does not go to the event log.
func (o *output) id(r slog.Record) uint32 {
	for _, e := range o.events {
		if strings.HasPrefix(r.Message, e.Message) {
			return e.ID
		}
	}
	switch {
	case r.Level >= slog.LevelError:
		return OtherError
	case r.Level >= slog.LevelWarn:
		return OtherWarning
	}
	return 0
}
