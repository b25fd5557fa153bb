package agent

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"sallyport/tunnel"
)

const refuseForm = "audit: {on_failure: refuse}\n" + yamlForm

// With on_failure: refuse the verdict is in the file when the API is called, and what came of the call is not.
func TestTheVerdictIsWrittenBeforeTheCall(t *testing.T) {
	t.Parallel()
	var then []byte
	r := newRigAs(t, refuseForm, func(r *rig) {
		r.called = func() { then, _ = os.ReadFile(r.state.Path("audit/audit.jsonl")) }
	})
	if resp, _ := r.ask(r.link(), tunnel.Request{Method: "GET", Target: "/orders/5"}); resp.Status != 200 {
		t.Fatalf("status %d", resp.Status)
	}
	r.stop()
	verdict := `"event":"call","request":"r-GET","api":"orders","method":"GET","path":"/orders/5","verdict":"allowed"`
	if !bytes.Contains(then, []byte(verdict)) || bytes.Contains(then, []byte(`"event":"done"`)) {
		t.Errorf("when the API was called there was on record:\n%s", then)
	}
	r.until("the outcome is on record", func() bool {
		for _, e := range r.events() {
			if e.Kind == "done" && e.Request == "r-GET" && e.Status == 200 && e.Out > 0 {
				return true
			}
		}
		return false
	})
}

// A disk that takes nothing: with refuse no call is made, and the caller and the log are told; else calls go on.
func TestFullDiskRefusesOrGoesOn(t *testing.T) {
	t.Parallel()
	for form, want := range map[string]int{refuseForm: 503, yamlForm: 200} {
		r := newRigAs(t, form, func(r *rig) {
			dir, err := r.state.Sub("audit")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/dev/full", dir.Path("audit.jsonl")); err != nil {
				t.Fatal(err)
			}
		})
		resp, _ := r.ask(r.link(), tunnel.Request{Method: "GET", Target: "/orders/5"})
		if resp.Status != want || want == 503 && (resp.Problem == nil || resp.Problem.Code != "unrecorded" || resp.Problem.Executed != tunnel.ExecutedNo) {
			t.Errorf("status %d, %+v; want %d", resp.Status, resp.Problem, want)
		}
		if n := len(r.requests()); (n == 0) != (want == 503) {
			t.Errorf("the API saw %d requests", n)
		}
		r.stop()
		calls := map[int]string{200: "they go on and are counted", 503: "they are refused"}[want]
		if !strings.Contains(r.log.String(), calls) {
			t.Errorf("the log does not say what becomes of calls:\n%s", r.log)
		}
	}
}
