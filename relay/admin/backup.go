package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// serveBackup streams a backup: whoever may open the socket could read the files as well. That it was made is on record.
// Over HTTPS there is none: it holds the relay's keys, which a stolen token must not be good for.
func (a *Admin) serveBackup(w http.ResponseWriter, q *http.Request) {
	if _, remote := q.Context().Value(principalKey{}).(*principal); remote {
		a.answerError(w, q, &forbidden{"a backup holds the relay's keys, so it is made on the relay's own machine alone"})
		return
	}
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Cache-Control", "no-store")
	err := a.c.Backup(q.Context(), deadlineWriter{w, rc})
	if err != nil {
		a.c.Log.Error("the backup could not be written", "error", err)
		panic(http.ErrAbortHandler) // the caller sees a file without its end
	}
	a.event(q, "backup made")
}

// A deadlineWriter gives each write its own time.
type deadlineWriter struct {
	w  io.Writer
	rc *http.ResponseController
}

func (d deadlineWriter) Write(p []byte) (int, error) {
	_ = d.rc.SetWriteDeadline(time.Now().Add(requestTimeout))
	return d.w.Write(p)
}

// Backup writes a backup of the relay to w. That it is whole, its reader has to find out (backup.Verify).
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	resp, err := c.stream(ctx, c.base.JoinPath("v1", "backup"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return fmt.Errorf("read the relay's answer: %w", err)
		}
		return problemOf(resp, text)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read the backup from the relay: %w", err)
	}
	return nil
}
