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
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sallyport/test/fault"
)

const (
	// chaosLasts is how long the weather is bad, unless SALLYPORT_CHAOS says otherwise.
	chaosLasts = 30 * time.Second
	// chaosBound is how long anything that a caller began may take: the longest black hole, a link's death, one repetition
	// of the request, and a busy machine.
	chaosBound = 45 * time.Second
	// mostIdle is how many goroutines an idle program with two links may have.
	mostIdle = 120
)

// TestChaos lets callers of all kinds call through a proxy that does to the agent's links what a seed says (SALLYPORT_SEED).
// Whatever ends, ends right or with a clear error, within its bound; nothing is run twice that must not be; and nothing of it
// is left in either program.
func TestChaos(t *testing.T) {
	t.Parallel()
	seed, err := fault.Seed(os.Getenv("SALLYPORT_SEED"))
	if err != nil {
		t.Fatal(err)
	}
	lasts := chaosLasts
	if text := os.Getenv("SALLYPORT_CHAOS"); text != "" {
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("to have this again: SALLYPORT_SEED=%d SALLYPORT_CHAOS=%s", seed, lasts)
	u := newUpstream(t)
	b, p := behind(t, u, "")
	b.awaitLinks(2)
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	w := b.startCrowd(6, 10*time.Millisecond, 5)
	s := &storm{box: b, ctx: ctx, counts: map[string]*[3]atomic.Int64{}}
	var callers sync.WaitGroup
	for name, call := range map[string]func(c *http.Client) error{
		"upload": s.upload, "download": s.download, "events": s.events, "websocket": s.socket,
	} {
		s.counts[name] = &[3]atomic.Int64{}
		for range 2 {
			callers.Go(func() { s.repeat(name, call) })
		}
	}
	p.Torment(ctx, seed, fault.Weather(), func(text string) { t.Logf("weather: %s", text) })
	callers.Wait()
	outcomes := w.stop(t, u)
	judge(t, outcomes)
	for name, n := range s.counts {
		t.Logf("%s: %d right, %d refused, %d broken off", name, n[0].Load(), n[1].Load(), n[2].Load())
	}
	b.awaitLinks(2)
	if err := get200(b.client(1), b.at("web", "/x/slow/0")); err != nil {
		t.Errorf("after all: %v", err)
	}
	b.nothingIsLeft(b.agent, "sallyport/agent.(*Agent).serve", "sallyport/tunnel.(*Stream)")
	b.nothingIsLeft(b.relay, "sallyport/relay/connector.(*Proxy).Serve", "sallyport/tunnel.(*Stream)")
}

// judge looks at the small calls.
func judge(t *testing.T, outcomes []outcome) {
	t.Helper()
	codes := map[string]int{}
	for _, o := range outcomes {
		code := o.problem.Error.Code
		if o.ok() {
			code = "right"
		}
		codes[code]++
		switch {
		case o.took > chaosBound:
			t.Errorf("a call took too long: %s", o)
		case o.ok():
		case o.err != nil || code == "" || o.problem.Executed == "":
			t.Errorf("a call ended without a clear error: %s", o)
		}
	}
	t.Logf("%d small calls: %v", len(outcomes), codes)
	if codes["right"] == 0 {
		t.Error("no call was answered: that proves nothing")
	}
}

// A storm is the callers of larger things.
type storm struct {
	*box
	ctx    context.Context
	counts map[string]*[3]atomic.Int64 // by kind of call: right, refused with a problem, broken off
}

// errRefused is a problem from the relay or the agent; errBroken an answer that broke off where everybody can see it.
var (
	errRefused = errors.New("refused")
	errBroken  = errors.New("broken off")
)

func (s *storm) repeat(name string, call func(c *http.Client) error) {
	c := s.client(1)
	c.Timeout = chaosBound
	for s.ctx.Err() == nil {
		began := time.Now()
		err := call(c)
		switch {
		case err == nil:
			s.counts[name][0].Add(1)
		case errors.Is(err, errRefused):
			s.counts[name][1].Add(1)
			time.Sleep(50 * time.Millisecond)
		case errors.Is(err, errBroken):
			s.counts[name][2].Add(1)
		default:
			s.t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > chaosBound {
			s.t.Errorf("%s took %s: %v", name, took, err)
		}
	}
}

// refusal is the error of an answer that is no 200; it must be a problem.
func refusal(resp *http.Response) error {
	var p problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || p.Error.Code == "" || p.Executed == "" {
		return fmt.Errorf("%s without a problem: %w", resp.Status, err)
	}
	return fmt.Errorf("%w: %s", errRefused, p.Error.Code)
}

const stormSize = 400_000

func (s *storm) upload(c *http.Client) error {
	resp, err := c.Post(s.at("web", "/x/digest"), "application/octet-stream", sized{patternReader(stormSize), stormSize})
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err) // while the body was under way
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	if want := fmt.Sprintf("%d %s", stormSize, patternDigest(stormSize)); !strings.HasPrefix(string(text), want) {
		return fmt.Errorf("the API read %q", text)
	}
	return nil
}

// download must never see a part that looks whole: with a length, and without.
func (s *storm) download(c *http.Client) error {
	for _, query := range []string{"?length", ""} {
		resp, err := c.Get(s.at("web", fmt.Sprintf("/x/big/%d%s", stormSize, query)))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return refusal(resp)
		}
		h := sha256.New()
		if _, err := io.Copy(h, resp.Body); err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		if hex.EncodeToString(h.Sum(nil)) != patternDigest(stormSize) {
			return errors.New("a body that looks whole is not what was sent")
		}
	}
	return nil
}

func (s *storm) events(c *http.Client) error {
	resp, err := c.Get(s.at("web", "/x/events?n=5"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	lines, n := bufio.NewScanner(resp.Body), 0
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "data:") {
			continue
		}
		if lines.Text() != fmt.Sprintf("data: event %d", n) {
			return fmt.Errorf("after %d events came %q", n, lines.Text())
		}
		n++
	}
	if lines.Err() != nil {
		return fmt.Errorf("%w: %w", errBroken, lines.Err())
	}
	if n != 5 {
		return fmt.Errorf("%d events of 5 look like all", n)
	}
	return nil
}

func (s *storm) socket(*http.Client) error {
	d := websocket.Dialer{
		NetDialContext: s.dial, TLSClientConfig: &tls.Config{RootCAs: s.cas, ServerName: hostName}, HandshakeTimeout: chaosBound,
	}
	conn, resp, err := d.DialContext(s.t.Context(), strings.Replace(s.at("web", "/x/echo"), "https", "wss", 1), nil)
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return refusal(resp)
		}
		return err
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(chaosBound))
	_ = conn.SetWriteDeadline(time.Now().Add(chaosBound))
	for i := range 5 {
		sent := bytes.Repeat([]byte{byte(i)}, 20_000)
		if err := conn.WriteMessage(websocket.BinaryMessage, sent); err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		_, got, err := conn.ReadMessage()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		} else if err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		if !bytes.Equal(got, sent) {
			return errors.New("a message came back changed")
		}
	}
	return nil
}

// nothingIsLeft ends a program in the way that has it print its goroutines. None may be of a call any more; those that are
// about to end get some time first.
func (b *box) nothingIsLeft(p *process, busy ...string) {
	b.t.Helper()
	eventually(b.t, 30*time.Second, "no stream is open", func() bool {
		var gateways []struct {
			Agents []struct{ Links []struct{ Streams int } }
		}
		b.admin(&gateways, "gateway", "list")
		n := 0
		for _, g := range gateways {
			for _, a := range g.Agents {
				for _, l := range a.Links {
					n += l.Streams
				}
			}
		}
		return n == 0
	})
	time.Sleep(time.Second)
	log := b.logs[p.name]
	p.signal(syscall.SIGQUIT)
	<-p.done
	said := log.String()
	b.logs[p.name] = &transcript{} // a dump of goroutines is a fault in any other place
	_, dump, _ := strings.Cut(said, "SIGQUIT: quit")
	stacks := strings.Split(dump, "\n\n")
	count := 0
	for _, stack := range stacks {
		if !strings.HasPrefix(strings.TrimSpace(stack), "goroutine ") {
			continue
		}
		count++
		for _, what := range busy {
			if strings.Contains(stack, what) {
				b.t.Errorf("%s: a goroutine is left:\n%s", p.name, stack)
			}
		}
	}
	b.t.Logf("%s: %d goroutines when idle", p.name, count)
	if count == 0 || count > mostIdle {
		b.t.Errorf("%s has %d goroutines, when idle it may have %d", p.name, count, mostIdle)
	}
}
