package systemd

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// IsJournal says that what is written to w goes to the journal: w is the file that JOURNAL_STREAM names.
func IsJournal(w io.Writer, getenv func(string) string) bool {
	f, ok := w.(*os.File)
	named := getenv("JOURNAL_STREAM")
	return ok && named != "" && named == stream(f)
}

// priority is the prefix by which the journal knows how urgent a line is.
func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

// Handler is a slog.Handler that begins each line with its priority.
type Handler struct {
	inner slog.Handler // writes to out.line
	out   *output
}

type output struct {
	w io.Writer

	mu   sync.Mutex // guards what follows, and the writing
	line bytes.Buffer
}

// NewHandler gives a handler that writes to w what the one that inner makes writes, one line a record.
func NewHandler(w io.Writer, inner func(io.Writer) slog.Handler) *Handler {
	out := &output{w: w}
	return &Handler{inner(&out.line), out}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.inner.Enabled(ctx, l) }

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
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.line.Reset()
	h.out.line.WriteString(priority(r.Level))
	if err := h.inner.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.out.w.Write(h.out.line.Bytes())
	return err
}

// Complain writes the text of an error, each of its lines with its priority where w is the journal.
func Complain(w io.Writer, getenv func(string) string, text string) {
	prefix := ""
	if IsJournal(w, getenv) {
		prefix = priority(slog.LevelError)
	}
	for l := range strings.Lines(text) {
		_, _ = io.WriteString(w, prefix+strings.TrimSuffix(l, "\n")+"\n") // there is nobody else to tell
	}
}
