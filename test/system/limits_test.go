//go:build linux

package system

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestLimitsOfMicrosoftsGateway goes over each limit of the on-premises data gateway, up to those that docs/makers.md
// says are ours.
func TestLimitsOfMicrosoftsGateway(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	b := ready(t, racy, []string{"web"}, api("web", u.url, "", everything))
	x := exchange{b.client(1), b.at("web", ""), 1}
	for _, size := range []int64{2_000_001, 3_182_219, 100_000_000} {
		t.Run(fmt.Sprintf("request of %d bytes", size), func(t *testing.T) {
			resp := x.do(t, "POST", "/x/digest", patternReader(size))
			want(t, resp, 200)
			if got := text(t, resp); !strings.HasPrefix(got, fmt.Sprintf("%d %s", size, patternDigest(size))) {
				t.Errorf("the API read %s", got)
			}
		})
	}
	t.Run("request of more than the limit", func(t *testing.T) {
		resp := x.do(t, "POST", "/x/digest", patternReader(100_000_001))
		if p := readProblem(t, resp); p.Error.Code != "body-too-large" || p.Status != 413 {
			t.Errorf("%+v", p)
		}
	})
	t.Run("answer of 200 MB", func(t *testing.T) {
		resp := x.do(t, "GET", "/x/big/200000000", nil)
		h := sha256.New()
		if n, err := io.Copy(h, resp.Body); n != 200_000_000 || err != nil || hex.EncodeToString(h.Sum(nil)) != patternDigest(200_000_000) {
			t.Errorf("%d bytes came, %v", n, err)
		}
	})
	for _, length := range []int{2_049, 16_384, 32_000} {
		t.Run(fmt.Sprintf("URL of %d characters", length), func(t *testing.T) {
			path := "/x/slow/0?q="
			path += strings.Repeat("a", length-len(b.at("web", path)))
			u.seen()
			want(t, x.do(t, "GET", path, nil), 200)
			if seen := u.seen(); len(seen) != 1 || seen[0] != path {
				t.Errorf("the API saw %d requests, or another target", len(seen))
			}
		})
	}
}
