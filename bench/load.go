//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// callLimit bounds one call. Whoever takes longer is broken, not slow.
const callLimit = 30 * time.Second

// A target is what callers connect to and what they say there.
type target struct {
	address string
	tls     *tls.Config // nil: plain
	host    string
	prefix  string // of every path
	header  string // more header lines
}

// A work is one request and the answer that it must get.
type work struct {
	method, path string
	send         int64 // bytes of the body
	answer       int64 // bytes of the answer's body
}

// The works. Path and query are such that an allow-list has something to decide.
var (
	small  = work{method: "GET", path: "/orders/4711/lines?expand=product", answer: int64(len(smallAnswer))}
	down   = work{method: "GET", path: "/reports/stock/export", answer: bulkSize}
	up     = work{method: "POST", path: "/imports/stock", send: bulkSize, answer: int64(len(uploadAnswer))}
	signed = work{method: "GET", path: "/handshakes", answer: -1}
)

func (t target) request(w work) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: sallyport-bench\r\nAccept: application/json\r\n%s",
		w.method, t.prefix, w.path, t.host, t.header)
	if w.method == "POST" {
		fmt.Fprintf(&b, "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", w.send)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// A caller is one kept-alive connection. It writes its own bytes: what measures must cost little of what is measured.
type caller struct {
	conn net.Conn
	r    *bufio.Reader
}

func (t target) dial(ctx context.Context) (*caller, error) {
	conn, err := (&net.Dialer{Timeout: callLimit}).DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	if t.tls != nil {
		secured := tls.Client(conn, t.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = secured
	}
	return &caller{conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}, nil
}

// call makes one call and checks its answer.
func (c *caller) call(request []byte, w work) (body []byte, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(callLimit)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return nil, err
	}
	for left := w.send; left > 0; {
		n := min(left, int64(len(bulkBlock)))
		if _, err := c.conn.Write(bulkBlock[:n]); err != nil {
			return nil, err
		}
		left -= n
	}
	return c.answer(w)
}

// answer reads the answer. What the callers of this program meet is a Content-Length or chunks.
func (c *caller) answer(w work) ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
		status := strings.TrimSpace(string(line))
		rest, _ := c.r.Peek(c.r.Buffered())
		return nil, fmt.Errorf("%s %s was answered with %q\n%s", w.method, w.path, status, rest)
	}
	length, chunked := int64(-1), false
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		// Comparing the length first leaves nearly every line at that.
		switch {
		case len(line) > 15 && line[14] == ':' && bytes.EqualFold(line[:14], []byte("Content-Length")):
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(line[15:])), 10, 64); err != nil {
				return nil, err
			}
		case len(line) > 18 && line[17] == ':' && bytes.EqualFold(line[:17], []byte("Transfer-Encoding")):
			chunked = true
		}
	}
	if chunked {
		length, err = c.chunks()
		return nil, errors.Join(err, w.check(length))
	}
	if length >= 0 && length <= int64(c.r.Size()) {
		body, err := c.r.Peek(int(length))
		if err == nil {
			_, err = c.r.Discard(int(length))
		}
		return body, errors.Join(err, w.check(length))
	}
	if length < 0 {
		return nil, fmt.Errorf("%s %s was answered without a length", w.method, w.path)
	}
	_, err = c.r.Discard(int(length)) // what is discarded is not copied
	return nil, errors.Join(err, w.check(length))
}

func (w work) check(length int64) error {
	if w.answer >= 0 && length != w.answer {
		return fmt.Errorf("%s %s was answered with %d bytes instead of %d", w.method, w.path, length, w.answer)
	}
	return nil
}

// chunks reads a chunked body and gives its length.
func (c *caller) chunks() (total int64, err error) {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return total, err
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 64)
		if err != nil {
			return total, err
		}
		if _, err := c.r.Discard(int(n) + 2); err != nil {
			return total, err
		}
		if total += n; n == 0 {
			return total, nil
		}
	}
}

// A span is what a number of callers saw in some time.
type span struct {
	requests int
	elapsed  time.Duration
	p50, p99 time.Duration
	cpu      time.Duration // of the processes between
}

// load lets callers call, one call at a time each, for some time. All are connected and have called once before the clock
// starts. meter reads the processor time of the processes between.
func (t target) load(ctx context.Context, callers int, d time.Duration, meter func() (time.Duration, error)) (span, error) {
	all := make([]*caller, callers)
	defer func() {
		for _, c := range all {
			if c != nil {
				c.conn.Close()
			}
		}
	}()
	request := t.request(small)
	if err := each(callers, func(i int) (err error) {
		if all[i], err = t.dial(ctx); err == nil {
			_, err = all[i].call(request, small)
		}
		return err
	}); err != nil {
		return span{}, err
	}
	before, err := meter()
	if err != nil {
		return span{}, err
	}
	times := make([][]time.Duration, callers)
	began := time.Now()
	end := began.Add(d)
	err = each(callers, func(i int) (err error) {
		times[i], err = all[i].repeat(ctx, request, end)
		return err
	})
	s := span{elapsed: time.Since(began)}
	after, meterErr := meter()
	if err := errors.Join(err, meterErr); err != nil {
		return s, err
	}
	s.cpu = after - before
	s.sum(slices.Concat(times...))
	return s, nil
}

// repeat calls until the end and gives how long each call took.
func (c *caller) repeat(ctx context.Context, request []byte, end time.Time) ([]time.Duration, error) {
	times := make([]time.Duration, 0, 1<<10)
	for now := time.Now(); now.Before(end) && ctx.Err() == nil; {
		if _, err := c.call(request, small); err != nil {
			return times, err
		}
		then := time.Now()
		times = append(times, then.Sub(now))
		now = then
	}
	return times, ctx.Err()
}

func (s *span) sum(times []time.Duration) {
	slices.Sort(times)
	s.requests = len(times)
	s.p50, s.p99 = percentile(times, 50), percentile(times, 99)
}

// percentile of sorted times, by nearest rank.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// each runs n functions at once and gives the first error.
func each(n int, f func(int) error) error {
	var wait sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wait.Go(func() { errs[i] = f(i) })
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// transfer moves n bodies one after the other over one connection and gives MB (10^6 bytes) a second.
func (t target) transfer(ctx context.Context, w work, n int) (float64, error) {
	c, err := t.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.conn.Close()
	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	request := t.request(w)
	rates := make([]float64, n)
	for i := range rates {
		began := time.Now()
		if _, err := c.call(request, w); err != nil {
			return 0, err
		}
		rates[i] = float64(max(w.send, w.answer)) / 1e6 / time.Since(began).Seconds()
	}
	return median(rates), nil
}
