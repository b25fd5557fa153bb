package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// uploadGrace is how long a finished answer waits for the rest of its request, so that the connection can be kept.
const uploadGrace = 50 * time.Millisecond

// lateAnswer is how long the answer of an upstream that takes no more of the body is waited for.
const lateAnswer = time.Second

// An upload is a request body on its way. It has a goroutine of its own because an upstream may answer while it reads.
type upload struct {
	done chan struct{}
	err  error // valid after done
	src  error // the part of err that is the caller's fault, valid after done
}

// finished says whether the whole body has been sent, waiting a little for it.
func (u *upload) finished(grace time.Duration) bool {
	select {
	case <-u.done:
		return u.err == nil
	default:
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-u.done:
		return u.err == nil
	case <-timer.C:
		return false
	}
}

// sourceError is the caller's fault in the body, if the upload has ended with one.
func (u *upload) sourceError() error {
	select {
	case <-u.done:
		return u.src
	default:
		return nil
	}
}

// startUpload sends the body on c. call.wait waits for it.
func (x *call) startUpload(c *conn) *upload {
	u := &upload{done: make(chan struct{})}
	r := x.body.reader()
	x.uploads.Go(func() {
		u.err = (&bodyWriter{x: x, c: c}).copy(r)
		if e, ok := errors.AsType[*Error](u.err); ok {
			u.src = e
		}
		close(u.done) // before the abort, so that who reads sees the reason
		switch {
		case u.src != nil:
			// The upstream must not take what it has for the whole.
			c.abort()
		case u.err != nil:
			// It may have answered before it closed, and the answer says why.
			c.readUntil(time.Now().Add(lateAnswer))
		}
	})
	return u
}

// chunkHead is room for a chunk's size before its data: hexadecimal digits and CRLF.
const chunkHead = 10

// copySize is how much of a body is in one write.
const copySize = 32 << 10

var copyBuffers = sync.Pool{New: func() any { return new([chunkHead + copySize + 2]byte) }}

// A bodyWriter sends a request's body on a connection.
type bodyWriter struct {
	x     *call
	c     *conn
	waits time.Time // since when the answer is waited for anew
}

// copy sends the body: exactly as long as announced, or in chunks, each flushed as it comes.
func (w *bodyWriter) copy(r io.Reader) error {
	buf := copyBuffers.Get().(*[chunkHead + copySize + 2]byte)
	defer copyBuffers.Put(buf)
	if w.x.body.length < 0 {
		return w.copyChunks(r, buf[:])
	}
	for left := w.x.body.length; left > 0; {
		// One byte more than is left shows a body that is longer than announced.
		n, err := r.Read(buf[:min(copySize, left+1)])
		if int64(n) > left {
			return &Error{Kind: BodyBroken, Err: errors.New("the request's body is longer than announced")}
		}
		left -= int64(n)
		if werr := w.write(buf[:n]); werr != nil {
			return werr
		}
		if err != nil && left > 0 {
			return bodyError(err)
		}
	}
	return nil
}

func (w *bodyWriter) copyChunks(r io.Reader, buf []byte) error {
	for {
		n, err := r.Read(buf[chunkHead : chunkHead+copySize])
		if n > 0 {
			size := strconv.AppendInt(nil, int64(n), 16)
			start := chunkHead - len(size) - 2
			copy(buf[start:], size)
			copy(buf[chunkHead-2:], "\r\n")
			copy(buf[chunkHead+n:], "\r\n")
			if werr := w.write(buf[start : chunkHead+n+2]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return w.endChunks()
		}
		if err != nil {
			return bodyError(err)
		}
	}
}

// endChunks writes the last chunk and the trailers that were announced.
func (w *bodyWriter) endChunks() error {
	bw := w.c.bw.Writer
	_, _ = bw.WriteString("0\r\n")
	for k, vv := range allowedTrailer(w.x.req.Trailer) {
		for _, v := range vv {
			writeField(bw, k, v)
		}
	}
	_, _ = bw.WriteString("\r\n")
	return bw.Flush()
}

// write sends bytes past the buffer, which is empty here. Progress is no silence: the wait for the answer begins anew, unless
// it has only just done so.
func (w *bodyWriter) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if _, err := (wire{&w.c.bw}).Write(p); err != nil {
		return err
	}
	if now := time.Now(); now.Sub(w.waits) > w.x.timeout/32 {
		w.waits = now
		w.c.readUntil(now.Add(w.x.timeout))
	}
	return nil
}

// bodyError is a body that ended before its time.
func bodyError(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: BodyBroken, Err: fmt.Errorf("read the request's body: %w", err)}
}

// hasBody says whether a request has a body, and how long it is (-1: not known).
func hasBody(req *http.Request) (int64, bool) {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return 0, false
	case req.ContentLength > 0:
		return req.ContentLength, true
	default: // for http.Request, a body with length 0 is one of unknown length
		return -1, true
	}
}
