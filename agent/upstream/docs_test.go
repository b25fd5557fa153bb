package upstream

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport/tunnel"
)

// What callers are told of each Kind is what docs/errors.md, made from the relay's table, tells them.
func TestRefusalsAreDocumented(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		status  int
		origins []string
	}
	manual := map[string]row{}
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(line, " | ")
		if len(cells) < 5 || !strings.HasPrefix(line, "| `") {
			continue
		}
		status, err := strconv.Atoi(cells[1])
		if err != nil {
			t.Fatalf("no status in %s", line)
		}
		manual[strings.Trim(cells[0], "| `")] = row{status, strings.Split(cells[3], " or ")}
	}
	for _, k := range []Kind{
		Unreachable, TLSFailed, AuthFailed, NoIdentity, TimedOut, Busy, Broken, BadRequest, BodyTooLarge, BodyBroken, CallerGone,
	} {
		r := refusalOf(k)
		if want, ok := manual[r.code]; !ok || want.status != r.status || !slices.Contains(want.origins, r.origin) {
			t.Errorf("%s: %d %s of %s; the manual has %+v", k, r.status, r.code, r.origin, want)
		}
	}
	if here := (&Error{Kind: AuthFailed, Here: true}).response(); here.Problem.Origin != tunnel.OriginAgent {
		t.Errorf("a secret that cannot be read is put down to the %s", here.Problem.Origin)
	}
}
