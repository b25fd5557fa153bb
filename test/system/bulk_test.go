//go:build linux

package system

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// maxGrowth is by how much the resident memory of the relay, and of the agent, may grow while any amount of data flows
// through one stream: buffers, windows and the garbage between two collections.
const maxGrowth = 64 << 20

// TestBulkInConstantMemory moves much more than either program may hold: 50 MB up, 1 GB down.
func TestBulkInConstantMemory(t *testing.T) {
	u := newUpstream(t)
	b := ready(t, lean, []string{"web"}, api("web", u.url, "", everything))
	c := b.client(1)
	b.relay.resetPeak(t)
	b.agent.resetPeak(t)
	relay, agent := b.relay.peakMemory(t), b.agent.peakMemory(t)
	t.Run("50 MB up", func(t *testing.T) {
		const size = 50_000_000
		resp, err := c.Post(b.at("web", "/x/digest"), "application/octet-stream", sized{patternReader(size), size})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		want(t, resp, 200)
		if got, w := text(t, resp), fmt.Sprintf("%d %s", size, patternDigest(size)); len(got) < len(w) || got[:len(w)] != w {
			t.Errorf("the upstream read %q, want %q", got, w)
		}
	})
	t.Run("1 GB down", func(t *testing.T) {
		const size = 1 << 30
		resp, err := c.Get(b.at("web", fmt.Sprintf("/x/big/%d", size)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		h := sha256.New()
		n, err := io.Copy(h, resp.Body)
		if n != size || err != nil || hex.EncodeToString(h.Sum(nil)) != patternDigest(size) {
			t.Errorf("read %d bytes and %v, want %d without a change", n, err, size)
		}
	})
	for _, p := range []struct {
		p      *process
		before int64
	}{{b.relay, relay}, {b.agent, agent}} {
		grown := p.p.peakMemory(t) - p.before
		t.Logf("%s: %d MB before, at most %d MB more while the data flowed (bound: %d MB)", p.p.name, p.before>>20, grown>>20, maxGrowth>>20)
		if grown > maxGrowth {
			t.Errorf("%s grew by %d MB, the bound is %d MB", p.p.name, grown>>20, maxGrowth>>20)
		}
	}
}

// patternReader gives n bytes of the repeated pattern block.
func patternReader(n int64) io.Reader {
	return io.LimitReader(&repeated{block: patternBlock()}, n)
}

type repeated struct {
	block []byte
	at    int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

// sized hides the reader's type, so that the caller does not know the length in advance.
type sized struct {
	io.Reader
	n int64
}

// TestBodyLimits sends more than an API takes: with the length told beforehand, and without.
func TestBodyLimits(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"small"}, api("small", u.url, "limits: {body: 100kB}", everything))
	for _, version := range []int{1, 2} {
		c := b.client(version)
		for _, length := range []int64{200_000, -1} {
			t.Run(fmt.Sprintf("HTTP%d length %d", version, length), func(t *testing.T) {
				u.seen()
				req, _ := http.NewRequestWithContext(t.Context(), "POST", b.at("small", "/x/digest"), patternReader(200_000))
				req.ContentLength = length
				resp, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				want(t, resp, http.StatusRequestEntityTooLarge)
				p := readProblem(t, resp)
				if length > 0 && (p.Executed != "no" || len(u.seen()) != 0) {
					t.Errorf("a body that is known to be too long reached the upstream (executed: %s)", p.Executed)
				}
			})
		}
		resp, err := c.Post(b.at("small", "/x/digest"), "", patternReader(100_000))
		if err != nil {
			t.Fatal(err)
		}
		want(t, resp, 200)
		resp.Body.Close()
	}
}
