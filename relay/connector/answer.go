package connector

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/tunnel"
)

// answer hands the upstream's answer to the caller as it comes.
func (c *call) answer(s *tunnel.Stream, resp *tunnel.Response) error {
	headAt := time.Now()
	h := c.w.Header()
	trailers := trailerNames(resp.Header["Trailer"])
	c.warnOfCookies(resp.Header["Set-Cookie"])
	copyResponse(h, resp.Header, c.shared())
	c.signHook(h, resp.Status)
	bodyless := c.r.Method == http.MethodHead || resp.Status == http.StatusNoContent || resp.Status == http.StatusNotModified
	if resp.ContentLength >= 0 && resp.Status != http.StatusNoContent {
		h["Content-Length"] = []string{strconv.FormatInt(resp.ContentLength, 10)}
	}
	if len(trailers) > 0 && !bodyless {
		h["Trailer"] = trailers
	}
	s.SetReadTimeout(c.silence(resp.Header))
	c.head(resp.Status)
	if !s.Ended() {
		// The caller's leaving must reach the upstream even while nothing moves.
		stop := context.AfterFunc(c.r.Context(), func() { s.Reset(tunnel.Cancelled, "the caller has gone") })
		defer stop()
	}
	if bodyless {
		return c.noBody(s)
	}
	if err := c.copyBody(s, resp.ContentLength); err != nil {
		return err
	}
	for name, values := range cleanTrailer(s.Trailer()) {
		h[c.trailerKey(name, trailers)] = values
	}
	if c.upload != nil {
		_ = c.rc.Flush()
		c.upload.finish()
	}
	c.event.Took.Answer = time.Since(headAt)
	return nil
}

// warnOfCookies says once for each connector that its API sets cookies that are dropped.
func (c *call) warnOfCookies(cookies []string) {
	if len(cookies) == 0 || c.shared() == "" || !slices.ContainsFunc(cookies, hostCookie) {
		return
	}
	if _, warned := c.p.hostCookies.LoadOrStore(c.place.Published.ID, true); !warned {
		c.p.o.Log.Warn("a __Host- cookie of the API was dropped: it needs a host name of the connector's own (--host)",
			"request", c.event.ID, "gateway", c.event.Gateway, "connector", c.event.Connector)
	}
}

// trailerKey: net/http sends a trailer that was not announced only under its prefix.
func (c *call) trailerKey(name string, announced []string) string {
	for _, a := range announced {
		if a == name {
			return name
		}
	}
	return http.TrailerPrefix + name
}

// silence is how long nothing may come in the middle of an answer. Event streams are silent by nature.
func (c *call) silence(h http.Header) time.Duration {
	for _, v := range h["Content-Type"] {
		if kind, _, _ := strings.Cut(v, ";"); strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
			return c.p.bounds.Load().IdleTimeout
		}
	}
	if d := c.place.Published.Timeout; d > 0 {
		return d
	}
	return c.p.bounds.Load().AnswerTimeout
}

// noBody is for answers that have none; a byte of one would be taken for the next answer.
func (c *call) noBody(s *tunnel.Stream) error {
	if s.Ended() && s.Buffered() == 0 {
		return nil
	}
	_ = c.rc.Flush()
	var b [1]byte
	if n, err := s.Read(b[:]); n > 0 {
		s.Reset(tunnel.BadSequence, "a body where none can be")
		return nil // the head was right and is with the caller; the bytes never leave
	} else if err != io.EOF {
		return nil // the head says all there is to say
	}
	return nil
}

// copyBody sends the body on, piece by piece, each as soon as it is there. An answer with a length must have it.
func (c *call) copyBody(s *tunnel.Stream, length int64) error {
	b := &bodyWriter{c: c, s: s, length: length}
	if length != 0 && s.Buffered() == 0 && !s.Ended() {
		_ = c.rc.Flush() // the head alone: the first byte of the body can be minutes away
	}
	if _, err := s.WriteTo(b); err != nil {
		return err
	}
	if length >= 0 && b.written != length {
		return unknown("upstream-broken", tunnel.OriginUpstream, "The answer is shorter than announced.",
			fmt.Errorf("%d of %d bytes", b.written, length))
	}
	return nil
}

// A bodyWriter writes to the caller and flushes whenever nothing more is at hand.
type bodyWriter struct {
	c       *call
	s       *tunnel.Stream
	length  int64
	written int64
}

func (b *bodyWriter) Write(p []byte) (int, error) {
	if b.length >= 0 && b.written+int64(len(p)) > b.length {
		return 0, unknown("upstream-broken", tunnel.OriginUpstream, "The answer is longer than announced.", nil)
	}
	if err := b.c.send(p); err != nil {
		return 0, err
	}
	b.written += int64(len(p))
	if b.written == b.length || b.s.Buffered() > 0 || b.s.Ended() {
		return len(p), nil // net/http flushes at the end, and the next piece follows at once
	}
	if err := b.c.rc.Flush(); err != nil {
		return len(p), fmt.Errorf("%w: %w", errCallerGone, err)
	}
	return len(p), nil
}
