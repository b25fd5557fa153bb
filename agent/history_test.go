package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/agent/audit"
)

// Each text is kept once, under both hashes, the newest ones alone, and one that was altered is not given out.
func TestVersionsAreKept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.stop()
	now := time.Now()
	for i := range mostVersions + 20 {
		text := fmt.Sprintf("# %d\n", i)
		if _, err := keepVersion(r.state, []byte(text), fmt.Sprintf("sha256:p%d", i/2), now.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	again := now.Add(time.Hour)
	before, err := keepVersion(r.state, []byte("# 100\n"), "sha256:p50", again)
	if err != nil || before.Text != fmt.Sprintf("# %d\n", mostVersions+19) {
		t.Errorf("the version before was %q, %v", before.Text, err)
	}
	all, err := PolicyHistory(r.state)
	if err != nil || len(all) != mostVersions {
		t.Fatalf("%d versions, %v; want %d", len(all), err, mostVersions)
	}
	if v := all[0]; v.Text != "# 100\n" || v.Policy != "sha256:p50" || !v.Last.Equal(again) || !v.First.Before(again) {
		t.Errorf("the newest is %+v", v)
	}
	path := r.state.Path(historyDir + "/" + versionFile(all[1]))
	if err := os.WriteFile(path, []byte(`{"text":"# forged","file":"`+all[1].File+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := PolicyHistory(r.state); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("an altered version: %v", err)
	}
}

// A change and a file that is refused are on record, and the relay is told of both.
func TestTheRelayIsToldOfThePolicy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.link()
	old := r.agent.now.Load().hash
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.write(strings.Replace(string(text), "POST /orders", "POST /other", 1))
	r.until("the change is told", func() bool { return len(r.told()) == 1 })
	now := r.agent.now.Load().hash
	r.write(string(text) + "nonsense: true\n")
	r.until("the refusal is told", func() bool { return len(r.told()) == 2 })
	want := []string{`{"policy":"` + now + `","was":"` + old + `"}`, `{"policy":"` + now + `","refused":"invalid"}`}
	if got := r.told(); got[0] != want[0] || got[1] != want[1] {
		t.Errorf("the relay was told %q, want %q", got, want)
	}
	r.stop()
	n := 0
	for _, e := range r.events() {
		if e.Kind == audit.Policy && (e.Hash == now && e.Was == old || e.Verdict == audit.Refused && e.Problem == "invalid") {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d of 2 are on record", n)
	}
	all, err := PolicyHistory(r.state)
	if err != nil || len(all) != 2 || all[0].Policy != now || all[1].Text != string(text) {
		t.Errorf("kept are %+v, %v", all, err)
	}
}
