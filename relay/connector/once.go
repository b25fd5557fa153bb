package connector

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"sallyport/relay/operation"
	"sallyport/tunnel"
)

const (
	// maxRepeatKey bounds an Idempotency-Key, and each of a flow's two IDs.
	maxRepeatKey = 255
	// replayedHeader says that an answer is that of an earlier request.
	replayedHeader = "Idempotency-Replayed"
	// maxClaims bounds how often a repeat looks again because the first has just made room.
	maxClaims = 5
)

// repeatToken is the token by which this call's repeats are known; "" if they are not: the connector does not ask for
// it, or the caller gave no key.
func (c *call) repeatToken(pub *Published) string {
	if pub.Dedupe.By == "" {
		return ""
	}
	wanted := c.r.Method == http.MethodPost || c.r.Method == http.MethodPatch
	if len(pub.repeats) > 0 {
		wanted = false
		for _, p := range pub.repeats {
			wanted = wanted || p.matches(c.r.Method, c.place.Target)
		}
	}
	if !wanted {
		return ""
	}
	key := c.one("Idempotency-Key")
	if pub.Dedupe.By == DedupeFlow {
		run, action := c.one("X-Ms-Workflow-Run-Id"), c.one("X-Ms-Action-Tracking-Id")
		if key = run + " " + action; run == "" || action == "" {
			key = ""
		}
	}
	if key == "" {
		return ""
	}
	return c.p.o.Operations.RepeatToken(pub.ID, c.principal(), c.r.Method, c.place.Target, pub.Dedupe.By, key)
}

// one is the value of a field that occurs once and is no longer than a key may be, else "".
func (c *call) one(name string) string {
	if v := c.r.Header[name]; len(v) == 1 && len(v[0]) <= maxRepeatKey {
		return strings.TrimSpace(v[0])
	}
	return ""
}

// principal is the caller's proven identity, as the agent is told it and as repeats are told apart by: every way to prove
// who calls has to be in it.
func (c *call) principal() string {
	if c.event.Principal == "" && c.hooked {
		return "hook"
	}
	return c.event.Principal
}

// once runs the call if it is the first with its key, and answers for the first if it is not. What is not known is said;
// it is never run again silently.
func (c *call) once(pub *Published, p plan) error {
	l := c.p.o.Operations
	var sum []byte
	again := false
	for range maxClaims {
		run, err := l.Begin(c.r.Context(), pub.ID, p.repeat, operation.Record{Request: c.event.ID}, again)
		switch {
		case err == nil && sum == nil:
			return c.supervise(pub, p, run)
		case err == nil:
			// The body was read to compare it with that of a request which then turned out not to have been run.
			run.Release(c.r.Context())
			return NewProblem("not-run", "An earlier request with this key has just turned out not to have been run. Repeat this one.").after(retryBusy)
		case errors.Is(err, operation.ErrBusy):
			return NewProblem("relay-busy", "The record of this connector's repeats is full.").because(err).after(retryBusy)
		case !errors.Is(err, operation.ErrKnown):
			return c.storeFailed(err)
		}
		found, err := l.Find(c.r.Context(), pub.ID, p.repeat)
		if errors.Is(err, operation.ErrNotFound) {
			again = false // it has expired, or was forgotten, since Begin looked
			continue
		}
		if err != nil {
			return c.storeFailed(err)
		}
		if found.Again && found.Run == nil {
			_ = found.Body.Close()
			again = true
			continue
		}
		if sum == nil {
			if sum, err = c.hashBody(); err != nil {
				return errors.Join(err, closeFound(found))
			}
		}
		if answered, err := c.answerRepeat(pub, p, found, sum); answered || err != nil {
			return err
		}
	}
	return NewProblem("not-run", "Earlier requests with this key come and go. Repeat this one.").after(retryBusy)
}

func closeFound(f *operation.Found) error {
	if f.Body != nil {
		return f.Body.Close()
	}
	return nil
}

// bodyBuffers are for bodies that stay at the relay.
var bodyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// hashBody reads the whole body of a repeat.
func (c *call) hashBody() ([]byte, error) {
	h := sha256.New()
	buf := bodyBuffers.Get().(*[32 << 10]byte)
	defer bodyBuffers.Put(buf)
	for {
		c.extendRead()
		n, err := c.r.Body.Read(buf[:])
		h.Write(buf[:n])
		if c.event.In += int64(n); c.event.In > c.bodyLimit() {
			return nil, c.tooLarge()
		}
		if err == io.EOF {
			return h.Sum(nil), nil
		}
		if err != nil {
			return nil, c.bodyFailed(err, tunnel.ExecutedNo)
		}
	}
}

// answerRepeat answers for the first request; not answered: it has ended meanwhile, look again.
func (c *call) answerRepeat(pub *Published, p plan, found *operation.Found, sum []byte) (answered bool, err error) {
	if len(found.Record.Body) > 0 && !bytes.Equal(found.Record.Body, sum) {
		return true, errors.Join(NewProblem("key-reused", "The key was used before, for a request with another body. "+
			"Use a new key for a new request."), closeFound(found))
	}
	c.event.Operation = found.Request
	if found.Run == nil {
		c.w.Header().Set(replayedHeader, "true")
		return true, c.give(found)
	}
	hold := time.NewTimer(max(0, c.hold()-time.Since(c.event.Time)))
	defer hold.Stop()
	select {
	case <-found.Run.Deferrals():
		return true, c.accepted(pub, p.repeat, found.Record, p.applied)
	case <-found.Run.Done():
		return false, nil
	case <-hold.C:
		return true, NewProblem("still-running", fmt.Sprintf("The first request with this key, %s, is still under way. This one was not run.", found.Request))
	case <-c.r.Context().Done():
		return true, fmt.Errorf("%w: %w", errCallerGone, context.Cause(c.r.Context()))
	}
}
