package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sallyport/relay/operation"
	"sallyport/tunnel"
)

// operationsPath is where the answers of deferred calls are, below a connector's base path; the token follows.
const operationsPath = "/_/operations/"

// maxPreference bounds what is read of Prefer fields.
const maxPreference = 1024

// takePreference reads "Prefer: respond-async, wait=10" (RFC 7240 sections 4.1 and 4.3) and takes it out of the request,
// because the relay answers to it and the API shall not. wait is 0 if none is given.
func takePreference(h http.Header) (wait time.Duration, async bool) {
	var rest []string
	for _, line := range h["Prefer"] {
		for _, item := range splitList(line[:min(len(line), maxPreference)]) {
			name, value, _ := strings.Cut(item, "=")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "respond-async":
				async = true
			case "wait":
				if n, err := strconv.Atoi(strings.Trim(strings.TrimSpace(value), `"`)); err == nil && n > 0 {
					wait = time.Duration(min(n, int(maxTimeout/time.Second))) * time.Second
				}
			default:
				rest = append(rest, item)
			}
		}
	}
	if !async {
		return 0, false
	}
	delete(h, "Prefer")
	if len(rest) > 0 {
		h["Prefer"] = []string{strings.Join(rest, ", ")}
	}
	return wait, true
}

// publicBase is the URL that callers have for the connector, without a trailing slash.
func (c *call) publicBase(pub *Published) string {
	base := c.p.o.PublicURL.Scheme + "://"
	if c.place.Host != "" {
		return base + c.place.Host + c.p.port
	}
	return base + c.p.o.PublicURL.Host + basePath(pub)
}

// operation answers for a deferred call: 202 while it runs, then its own status, fields and body. DELETE cancels it.
func (c *call) operation(pub *Published, token string) error {
	l := c.p.o.Operations
	if l == nil {
		return noOperation()
	}
	if c.r.Method == http.MethodDelete {
		return c.cancelOperation(pub, l, token)
	}
	if err := c.reads("The answer of a deferred call"); err != nil {
		return err
	}
	found, err := l.Find(c.r.Context(), pub.ID, token)
	switch {
	case errors.Is(err, operation.ErrNotFound):
		return noOperation()
	case err != nil:
		return c.storeFailed(err)
	}
	c.event.Operation = found.Request
	if found.Run != nil {
		return c.accepted(pub, token, found.Record, false)
	}
	return c.give(found)
}

func (c *call) cancelOperation(pub *Published, l *operation.Ledger, token string) error {
	within, cancel := context.WithTimeout(c.r.Context(), cancelWithin)
	defer cancel()
	err := l.Cancel(within, pub.ID, token)
	switch {
	case errors.Is(err, operation.ErrNotFound):
		return noOperation()
	case err != nil && within.Err() == nil:
		return c.storeFailed(err)
	}
	c.head(http.StatusNoContent)
	return nil
}

// cancelWithin is how long a DELETE waits for the call to have ended; it ends in any case.
const cancelWithin = 10 * time.Second

func noOperation() *Problem {
	return NewProblem("no-operation", "Nothing is kept at this address: it has expired or was deleted, or it is not this connector's.")
}

func (c *call) storeFailed(err error) *Problem {
	return NewProblem("internal", "The relay's store failed. Its log has the reason under this request ID.").because(err)
}

// give answers with what is kept of another call. Its request ID is the other call's: the logs have the call under that.
func (c *call) give(found *operation.Found) error {
	switch found.State {
	case operation.Lost:
		return unknown("outcome-unknown", tunnel.OriginRelay, "The relay was restarted while the request "+found.Request+
			" was under way. It may have been run, so do not repeat it unseen.", nil)
	case operation.Unkept:
		return unknown("answer-not-kept", tunnel.OriginRelay, "The request "+found.Request+" was answered by the API, "+
			"but the answer is larger than what the relay keeps, or could not be stored.", nil)
	}
	defer found.Body.Close()
	h := c.w.Header()
	maps.Copy(h, found.Header)
	if _, typed := h["Content-Type"]; !typed {
		h["Content-Type"] = nil // net/http would guess one
	}
	h[requestIDHeader] = []string{found.Request}
	c.setCORS()
	c.closeUnlessRead()
	c.extendWrite()
	c.started, c.event.Status = true, found.Status
	c.w.WriteHeader(found.Status)
	if c.r.Method == http.MethodHead {
		return nil
	}
	buf := bodyBuffers.Get().(*[32 << 10]byte)
	defer bodyBuffers.Put(buf)
	for {
		n, err := found.Body.Read(buf[:])
		if n > 0 {
			if err := c.send(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read an answer that was kept: %w", err)
		}
	}
}
