//go:build linux

package system

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// The connectors that callers of all kinds call: plainly, deferred after a second, and with a key by which repeats are known.
var mixedConnectors = map[string][]string{
	"web": nil, "later": {"--async-after", "1s"}, "known": {"--dedupe", "idempotency-key"},
}

// A kind of call. mayRunTwice is for bare idempotent requests, which the relay may repeat once.
type kind struct {
	name        string
	version     int // of HTTP
	mayRunTwice bool
	call        func(m *mixed, c *http.Client, id string) outcome
}

// mixedKinds are what callers do: small calls, bodies both ways, of known length and not, streams, and what outlives a call.
func mixedKinds() []kind {
	var kinds []kind
	for _, v := range []int{1, 2} {
		add := func(name string, twice bool, call func(m *mixed, c *http.Client, id string) outcome) {
			kinds = append(kinds, kind{fmt.Sprintf("%s/%d", name, v), v, twice, call})
		}
		add("get", true, func(m *mixed, c *http.Client, id string) outcome {
			return m.do(c, id, "GET", m.at("web", "/x/slow/5"), 0, 0, "slow but sure")
		})
		add("post", false, func(m *mixed, c *http.Client, id string) outcome {
			return m.up(c, id, "web", 2000, 2000)
		})
		for _, size := range []int64{40_000, 300_000, 2_000_000} {
			add(fmt.Sprintf("upload-%dk", size/1000), false, func(m *mixed, c *http.Client, id string) outcome {
				return m.up(c, id, "web", size, size)
			})
		}
		add("upload-20M", false, func(m *mixed, c *http.Client, id string) outcome {
			return m.up(c, id, "web", 20_000_000, 20_000_000)
		})
		add("chunked", false, func(m *mixed, c *http.Client, id string) outcome {
			return m.up(c, id, "web", 100_000, -1)
		})
		add("expect", false, func(m *mixed, c *http.Client, id string) outcome {
			return m.up(c, id, "web", 50_000, 50_000, "Expect", "100-continue")
		})
		add("download", true, func(m *mixed, c *http.Client, id string) outcome {
			return m.down(c, id, 1_500_000, "?length")
		})
		add("download-chunked", true, func(m *mixed, c *http.Client, id string) outcome {
			return m.down(c, id, 70_000, "")
		})
		add("events", true, (*mixed).stream)
		add("known", false, func(m *mixed, c *http.Client, id string) outcome {
			return m.up(c, id, "known", 3000, 3000, "Idempotency-Key", id)
		})
		add("later", false, (*mixed).deferred)
	}
	return append(kinds, kind{"websocket", 1, false, (*mixed).socket})
}

// mixed is callers of all kinds, each with connections of its own, who call until they are stopped.
type mixed struct {
	*box
	stopping chan struct{}
	running  sync.WaitGroup
	next     atomic.Int64
	pause    time.Duration

	mu       sync.Mutex // guards outcomes
	outcomes map[string][]outcome
	twice    map[string]bool // the kinds that may run twice
}

// mixedBox is a box with the connectors of mixedConnectors.
func mixedBox(t *testing.T, bin binaries, u *upstream, extraAgent string) *box {
	t.Helper()
	b := newBox(t, bin)
	b.startRelay()
	if err := b.join(b.addGateway()); err != nil {
		t.Fatal(err)
	}
	b.extraAgent += extraAgent
	b.configure(mixedAPIs(u)...)
	b.startAgent()
	for name, flags := range mixedConnectors {
		b.admin(nil, append([]string{"connector", "publish", gatewayName + "/" + name, "--auth", "none"}, flags...)...)
		b.awaitAPI(name)
	}
	return b
}

func mixedAPIs(u *upstream) (apis []string) {
	for name := range mixedConnectors {
		apis = append(apis, api(name, u.url, "", everything))
	}
	slices.Sort(apis)
	return apis
}

// startMixed lets one caller of each kind call, or of those kinds whose name has one of the words.
func (b *box) startMixed(pause time.Duration, words ...string) *mixed {
	m := &mixed{box: b, stopping: make(chan struct{}), pause: pause, outcomes: map[string][]outcome{}, twice: map[string]bool{}}
	for _, k := range mixedKinds() {
		if len(words) > 0 && !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(k.name, w) }) {
			continue
		}
		m.twice[k.name] = k.mayRunTwice
		c := b.client(k.version)
		c.Transport.(*http.Transport).ExpectContinueTimeout = 5 * time.Second
		m.running.Go(func() { m.repeat(k, c) })
	}
	return m
}

func (m *mixed) repeat(k kind, c *http.Client) {
	for {
		select {
		case <-m.stopping:
			return
		default:
		}
		id := fmt.Sprintf("%s-%d", k.name, m.next.Add(1))
		began := time.Now()
		o := k.call(m, c, id)
		o.id, o.method, o.began, o.took = id, k.name, began, time.Since(began)
		m.mu.Lock()
		m.outcomes[k.name] = append(m.outcomes[k.name], o)
		m.mu.Unlock()
		select {
		case <-m.stopping:
		case <-time.After(m.pause):
		}
	}
}

// do makes one call with an ID that the upstream counts. The answer must be wanted, if it is a 200.
func (m *mixed) do(c *http.Client, id, method, url string, sent, length int64, wanted string, fields ...string) (o outcome) {
	var body io.Reader
	if sent > 0 {
		body = io.NopCloser(patternReader(sent))
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return outcome{err: err}
	}
	req.ContentLength = length
	if req.GetBody = nil; method == "POST" && c.Transport.(*http.Transport).Protocols.HTTP2() {
		// What an HTTP/2 server says it has not processed (RFC 9113 section 6.8) is sent again.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(patternReader(sent)), nil }
	}
	req.Header.Set(countHeader, id)
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return outcome{err: err}
	}
	defer resp.Body.Close()
	o.status = resp.StatusCode
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		o.err = err
	case o.status != http.StatusOK:
		if json.Unmarshal(text, &o.problem) != nil || o.problem.Error.Code == "" {
			o.err = fmt.Errorf("%s without a problem: %.200q", resp.Status, text)
		}
	case !strings.HasPrefix(string(text), wanted):
		o.err = fmt.Errorf("the answer is %.200q", text)
	}
	return o
}

// up sends n bytes of the pattern, whose digest the upstream must have seen.
func (m *mixed) up(c *http.Client, id, connector string, n, length int64, fields ...string) outcome {
	return m.do(c, id, "POST", m.at(connector, "/x/digest"), n, length,
		fmt.Sprintf("%d %s", n, digestOf(n)), fields...)
}

// digests of the sizes in use, which are few.
var digests sync.Map

func digestOf(n int64) string {
	if d, ok := digests.Load(n); ok {
		return d.(string)
	}
	d := patternDigest(n)
	digests.Store(n, d)
	return d
}

// down must never see a part that looks whole.
func (m *mixed) down(c *http.Client, id string, n int64, query string) (o outcome) {
	req, _ := http.NewRequestWithContext(m.t.Context(), "GET", m.at("web", fmt.Sprintf("/x/big/%d%s", n, query)), nil)
	req.Header.Set(countHeader, id)
	resp, err := c.Do(req)
	if err != nil {
		return outcome{err: err}
	}
	defer resp.Body.Close()
	o.status = resp.StatusCode
	if o.status != http.StatusOK {
		o.err = json.NewDecoder(resp.Body).Decode(&o.problem)
		return o
	}
	h := sha256.New()
	if _, o.err = io.Copy(h, resp.Body); o.err == nil && hex.EncodeToString(h.Sum(nil)) != digestOf(n) {
		o.err = errors.New("a body that looks whole is not what was sent")
		m.t.Error(o.err)
	}
	return o
}

func (m *mixed) stream(c *http.Client, id string) (o outcome) {
	req, _ := http.NewRequestWithContext(m.t.Context(), "GET", m.at("web", "/x/events?n=4"), nil)
	req.Header.Set(countHeader, id)
	resp, err := c.Do(req)
	if err != nil {
		return outcome{err: err}
	}
	defer resp.Body.Close()
	if o.status = resp.StatusCode; o.status != http.StatusOK {
		o.err = json.NewDecoder(resp.Body).Decode(&o.problem)
		return o
	}
	n, lines := 0, bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data:") {
			n++
		}
	}
	if o.err = lines.Err(); o.err == nil && n != 4 {
		o.err = fmt.Errorf("%d events of 4 look like all", n)
		m.t.Error(o.err)
	}
	return o
}

// deferred is answered 202 after a second, and asks for the answer until it is there.
func (m *mixed) deferred(c *http.Client, id string) (o outcome) {
	began := time.Now()
	ask := func(method, url string, body io.Reader) (*http.Response, error) {
		req, _ := http.NewRequestWithContext(m.t.Context(), method, url, body)
		req.Header.Set(countHeader, id)
		req.GetBody = nil
		return c.Do(req)
	}
	resp, err := ask("POST", m.at("later", "/x/slow/1500"), strings.NewReader("an order"))
	for err == nil && resp.StatusCode == http.StatusAccepted && time.Since(began) < time.Minute {
		where := resp.Header.Get("Location")
		resp.Body.Close()
		time.Sleep(200 * time.Millisecond)
		for resp, err = ask("GET", where, nil); err != nil && foundNobody(err) && time.Since(began) < time.Minute; {
			time.Sleep(200 * time.Millisecond)
			resp, err = ask("GET", where, nil)
		}
	}
	if err != nil {
		return outcome{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	o.status, o.err = resp.StatusCode, err
	if o.status != http.StatusOK {
		_ = json.Unmarshal(text, &o.problem)
	} else if string(text) != "slow but sure" {
		o.err = fmt.Errorf("the kept answer is %q", text)
	}
	return o
}

// socket echoes some messages through a WebSocket, over about a second.
func (m *mixed) socket(_ *http.Client, id string) (o outcome) {
	d := websocket.Dialer{
		NetDialContext: m.dial, TLSClientConfig: &tls.Config{RootCAs: m.cas, ServerName: hostName}, HandshakeTimeout: time.Minute,
	}
	conn, resp, err := d.DialContext(m.t.Context(), strings.Replace(m.at("web", "/x/echo"), "https", "wss", 1), http.Header{countHeader: {id}})
	if err != nil {
		if resp == nil {
			return outcome{err: err}
		}
		o.status = resp.StatusCode
		text, _ := io.ReadAll(resp.Body)
		_ = json.Unmarshal(text, &o.problem)
		return o
	}
	defer conn.Close()
	o.status = http.StatusOK
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	_ = conn.SetWriteDeadline(time.Now().Add(time.Minute))
	for i := range 10 {
		sent := bytes.Repeat([]byte{byte(i)}, 20_000)
		if o.err = conn.WriteMessage(websocket.BinaryMessage, sent); o.err != nil {
			return o
		}
		var got []byte
		if _, got, o.err = conn.ReadMessage(); o.err != nil {
			return o
		}
		if !bytes.Equal(got, sent) {
			m.t.Error("a message came back changed")
		}
		time.Sleep(100 * time.Millisecond)
	}
	return o
}

// stop ends the callers and gives what failed. What ran although it says that it did not, or more often than it may, is a
// fault, and so is what says 200 and did not run.
func (m *mixed) stop(u *upstream) (failed []outcome) {
	m.t.Helper()
	close(m.stopping)
	m.running.Wait()
	ran := u.timesRun()
	var said strings.Builder
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range m.outcomes {
			if !yield(name) {
				return
			}
		}
	}) {
		bad := 0
		for _, o := range m.outcomes[name] {
			most := 1
			if m.twice[name] {
				most = 2
			}
			switch n := ran[o.id]; {
			case n > most:
				m.t.Errorf("%s: it was run %d times", o, n)
			case n == 0 && o.ok():
				m.t.Errorf("%s: it was not run", o)
			case n > 0 && o.problem.Executed == "no":
				m.t.Errorf("%s: it was run", o)
			}
			if !o.ok() {
				bad++
				failed = append(failed, o)
			}
		}
		fmt.Fprintf(&said, " %s %d (%d failed)", name, len(m.outcomes[name]), bad)
	}
	m.t.Logf("calls:%s", said.String())
	return failed
}

// showAll is what failed, up to n of it, with whether it ran.
func showAll(failed []outcome, u *upstream, n int) string {
	ran := u.timesRun()
	var s strings.Builder
	for _, o := range failed[:min(n, len(failed))] {
		fmt.Fprintf(&s, "%s began %s, ran %d\n", o, o.began.Format("05.000"), ran[o.id])
	}
	return s.String()
}
