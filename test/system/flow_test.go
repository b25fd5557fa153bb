//go:build linux

package system

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

var staticTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// flowIDs are what Power Automate sends with each call of an action.
var flowIDs = []string{
	"User-Agent", "azure-logic-apps/1.0 (workflow 7d1; version 0858) microsoft-flow/1.0",
	"X-Ms-Workflow-Id", "7d1", "X-Ms-Workflow-Run-Id", "08584", "X-Ms-Workflow-Name", "bookings", "X-Ms-Action-Tracking-Id", "a1",
	"X-Ms-Client-Request-Id", "c1", "X-Ms-Correlation-Id", "k1",
}

// A flow is a caller of the API "flow", published with a key and with everything that flows need.
type flow struct {
	*box
	t   *testing.T
	api *flowAPI
	key string
	c   *http.Client
}

func newFlow(t *testing.T, publish ...string) *flow {
	t.Helper()
	f := &flow{t: t, api: newFlowAPI(t)}
	f.box = ready(t, racy, nil, api("flow", f.api.url, "limits: {timeout: 10m}", "GET,POST,PATCH /**", "DELETE /hooks/{id}"))
	f.admin(nil, append([]string{"connector", "publish", gatewayName + "/flow", "--auth", "key"}, publish...)...)
	f.key = f.addKey("flow", "maker")
	f.c = f.client(1)
	f.await()
	return f
}

// await waits until an agent is linked.
func (f *flow) await() {
	f.t.Helper()
	eventually(f.t, 30*time.Second, "an agent is linked", func() bool {
		resp := f.do("GET", f.at("flow", "/_/ping?link=required"), "")
		return resp.StatusCode == 200
	})
}

// do sends a request with the key, to an absolute address, as flows follow links; fields are name, value.
func (f *flow) do(method, url, body string, fields ...string) *http.Response {
	f.t.Helper()
	return f.send(method, url, body, append([]string{"X-API-Key", f.key}, fields...)...)
}

func (f *flow) send(method, url, body string, fields ...string) *http.Response {
	f.t.Helper()
	if !strings.HasPrefix(url, f.at("flow", "/")) {
		f.t.Fatalf("the address %q is not below the connector", url)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := f.c.Do(req)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, url, err)
	}
	f.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// field demands a value of an answer's field.
func field(t *testing.T, resp *http.Response, name, value string) {
	t.Helper()
	if got := resp.Header.Get(name); got != value {
		t.Errorf("%s is %q, want %q", name, got, value)
	}
}

// TestPatternsPassUntouched goes through what Logic Apps does with triggers, pages, chunks and throttling. Nothing is
// changed but the links, which are public.
func TestPatternsPassUntouched(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	t.Run("polling trigger", func(t *testing.T) {
		next := f.at("flow", "/events")
		for state, c := range []struct {
			status      int
			retry, body string
		}{{202, "15", ""}, {200, "0", `[{"order":1}]`}, {202, "15", ""}} {
			resp := f.do("GET", next, "", flowIDs...)
			want(t, resp, c.status)
			field(t, resp, "Retry-After", c.retry)
			field(t, resp, "Location", f.at("flow", fmt.Sprintf("/events?triggerState=%d", state+1)))
			if got := text(t, resp); got != c.body {
				t.Errorf("body %q, want %q", got, c.body)
			}
			next = resp.Header.Get("Location")
		}
	})
	t.Run("paging", func(t *testing.T) {
		got, next := "", f.at("flow", "/pages")
		for next != "" {
			resp := f.do("GET", next, "", flowIDs...)
			got += text(t, resp)
			next, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
		}
		if got != "[0,1][2,3][4,5]" {
			t.Errorf("the pages are %s", got)
		}
	})
	t.Run("chunked upload", func(t *testing.T) {
		resp := f.do("POST", f.at("flow", "/upload"), "", append(flowIDs, "X-Ms-Transfer-Mode", "chunked", "X-Ms-Content-Length", "10000")...)
		want(t, resp, 200)
		field(t, resp, "X-Ms-Chunk-Size", "4096")
		field(t, resp, "Location", f.at("flow", "/upload/7"))
		for from := 0; from < len(fileText); from += 4096 {
			to := min(from+4096, len(fileText))
			part := f.do("PATCH", resp.Header.Get("Location"), fileText[from:to], append(flowIDs, "Content-Range", fmt.Sprintf("bytes=%d-%d/10000", from, to-1))...)
			want(t, part, 200)
			field(t, part, "Range", fmt.Sprintf("bytes=0-%d", to-1))
		}
		if string(f.api.upload) != fileText {
			t.Errorf("%d bytes arrived, or in the wrong order", len(f.api.upload))
		}
	})
	t.Run("chunked download", func(t *testing.T) {
		got := ""
		for from := 0; from < len(fileText); from += 3000 {
			resp := f.do("GET", f.at("flow", "/file"), "", append(flowIDs, "Range", fmt.Sprintf("bytes=%d-%d", from, from+2999))...)
			want(t, resp, 206)
			field(t, resp, "Content-Range", fmt.Sprintf("bytes %d-%d/10000", from, min(from+2999, 9999)))
			got += text(t, resp)
		}
		if got != fileText {
			t.Errorf("%d bytes came, or in the wrong order", len(got))
		}
	})
	t.Run("429", func(t *testing.T) {
		resp := f.do("POST", f.at("flow", "/throttled"), "x", flowIDs...)
		want(t, resp, 429)
		field(t, resp, "Retry-After", "7")
		if got := text(t, resp); got != "slow down\n" {
			t.Errorf("body %q", got)
		}
	})
}

// TestWebhookTrigger subscribes and unsubscribes as a flow does that is switched on and off.
func TestWebhookTrigger(t *testing.T) {
	t.Parallel()
	f := newFlow(t, "--webhooks", "POST /hooks")
	for _, withKey := range []bool{true, false} {
		resp := f.do("POST", f.at("flow", "/hooks"), `{"callback":"https://prod-1.westeurope.logic.azure.com/workflows/1?sig=s"}`, flowIDs...)
		want(t, resp, 201)
		at := resp.Header.Get("Location")
		if !strings.HasPrefix(at, f.at("flow", "/_/hooks/")) || f.api.subscriptions() != 1 {
			t.Fatalf("Location %q, %d subscriptions", at, f.api.subscriptions())
		}
		forged := at[:len(f.at("flow", "/_/hooks/"))] + "A" + at[len(f.at("flow", "/_/hooks/"))+1:]
		if forged != at {
			readProblem(t, f.send("DELETE", forged, ""))
		}
		if f.api.subscriptions() != 1 {
			t.Error("a path that nobody has signed ended the subscription")
		}
		f.relay.kill() // what is signed stays signed
		f.startRelay()
		f.await()
		fields := []string{}
		if withKey {
			fields = []string{"X-API-Key", f.key}
		}
		want(t, f.send("DELETE", at, "", fields...), 204)
		if f.api.subscriptions() != 0 {
			t.Error("the subscription is still there")
		}
	}
}

// deferReport asks for a report, and gives the address of its answer.
func (f *flow) deferReport(body string) string {
	f.t.Helper()
	resp := f.do("POST", f.at("flow", "/long"), body, append(flowIDs, "Prefer", "respond-async")...)
	want(f.t, resp, 202)
	if resp.Header.Get("Retry-After") == "" {
		f.t.Error("a 202 without Retry-After")
	}
	<-f.api.began
	return resp.Header.Get("Location")
}

// report polls until the answer is there.
func (f *flow) report(at string) *http.Response {
	f.t.Helper()
	var resp *http.Response
	eventually(f.t, 30*time.Second, "the report is there", func() bool {
		resp = f.do("GET", at, "", flowIDs...)
		return resp.StatusCode != 202
	})
	return resp
}

// TestLongWork defers calls and looks for their answers across kills, restarts and cancels.
func TestLongWork(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	done := f.deferReport("January")
	f.api.finish <- struct{}{}
	check := func() {
		t.Helper()
		resp := f.report(done)
		if got := text(t, resp); resp.StatusCode != 201 || got != "report of January" {
			t.Errorf("the report: %d %q", resp.StatusCode, got)
		}
		field(t, resp, "Location", f.at("flow", "/reports/9"))
	}
	check()

	running := f.deferReport("February")
	f.relay.kill()
	f.startRelay()
	f.await()
	check()
	if p := readProblem(t, f.report(running)); p.Error.Code != "outcome-unknown" || p.Status != 409 || p.Executed != "unknown" {
		t.Errorf("what was running: %+v", p)
	}

	cancelled := f.deferReport("March")
	want(t, f.do("DELETE", cancelled, ""), 204)
	for range 2 { // February's, cut off by the kill, and March's
		select {
		case <-f.api.left:
		case <-time.After(20 * time.Second):
			t.Fatal("the API still works on a report that nobody waits for")
		}
	}
	if p := readProblem(t, f.do("GET", cancelled, "")); p.Error.Code != "no-operation" {
		t.Errorf("what was cancelled: %+v", p)
	}

	// A relay that is stopped waits for what runs, and keeps it.
	draining := f.deferReport("April")
	time.AfterFunc(500*time.Millisecond, func() { f.api.finish <- struct{}{} })
	f.relay.stop(t)
	f.startRelay()
	f.await()
	if resp := f.report(draining); resp.StatusCode != 201 || text(t, resp) != "report of April" {
		t.Errorf("what was running when the relay was stopped: %d", resp.StatusCode)
	}
	if n := f.api.orders.Load(); n != 4 {
		t.Errorf("the API was asked for %d reports, want 4: each once", n)
	}
}

// TestRepeatedActions books once what a flow sends again, before and after a kill.
func TestRepeatedActions(t *testing.T) {
	t.Parallel()
	f := newFlow(t, "--dedupe", "flow", "--dedupe-for", "POST /orders", "--dedupe-for", "POST /long")
	send := func() string {
		resp := f.do("POST", f.at("flow", "/orders"), "a bolt", flowIDs...)
		want(t, resp, 201)
		return text(t, resp) + " " + resp.Header.Get("Idempotency-Replayed")
	}
	if got := send(); got != "order 1: a bolt " {
		t.Errorf("the first: %q", got)
	}
	if got := send(); got != "order 1: a bolt true" {
		t.Errorf("the repeat: %q", got)
	}
	go func() { // it is cut off
		req, _ := http.NewRequest("POST", f.at("flow", "/long"), strings.NewReader("x"))
		req.Header.Set("X-API-Key", f.key)
		for i := 0; i < len(flowIDs); i += 2 {
			req.Header.Set(flowIDs[i], flowIDs[i+1])
		}
		if resp, err := f.c.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	<-f.api.began
	f.relay.kill()
	f.startRelay()
	f.await()
	if got := send(); got != "order 1: a bolt true" {
		t.Errorf("the repeat after a kill: %q", got)
	}
	for range 2 {
		resp := f.do("POST", f.at("flow", "/long"), "x", flowIDs...)
		if p := readProblem(t, resp); p.Error.Code != "outcome-unknown" || p.Executed != "unknown" {
			t.Errorf("a repeat of what was cut off: %+v", p)
		}
	}
	if n := f.api.orders.Load(); n != 2 {
		t.Errorf("the API did %d things, want 2", n)
	}
}

// TestFlowBehindACall finds the flow's run in both records, under the request ID that the flow has.
func TestFlowBehindACall(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	resp := f.do("POST", f.at("flow", "/orders"), "x", flowIDs...)
	want(t, resp, 201)
	id := resp.Header.Get("X-Request-Id")
	line := func(text, name string) map[string]any {
		sc := bufio.NewScanner(strings.NewReader(text))
		for sc.Scan() {
			var e map[string]any
			if json.Unmarshal(sc.Bytes(), &e) == nil && e[name] == id {
				return e
			}
		}
		return nil
	}
	for what, find := range map[string]func() map[string]any{
		"the access log": func() map[string]any { return line(f.logs["relay"].String(), "id") },
		"the audit record": func() map[string]any {
			b, _ := os.ReadFile(f.path("agent/audit/audit.jsonl"))
			return line(string(b), "request")
		},
	} {
		var e map[string]any
		eventually(t, 10*time.Second, what+" has the call", func() bool { e = find(); return e != nil })
		ids, _ := e["flow"].(map[string]any)
		for name, value := range map[string]string{"workflow-run-id": "08584", "workflow-name": "bookings", "action-tracking-id": "a1", "correlation-id": "k1", "client-request-id": "c1"} {
			if ids[name] != value {
				t.Errorf("%s has %v as %s, want %s", what, ids[name], name, value)
			}
		}
	}
}

// TestProblemsOfTheRelaysOwnPaths: whatever is asked there, the platform can show what is wrong.
func TestProblemsOfTheRelaysOwnPaths(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	for _, c := range []struct {
		method, path, code string
		key                bool
	}{
		{"GET", "/_/ping", "key-required", false},
		{"POST", "/_/ping", "method-refused", true},
		{"GET", "/_/operations/x", "key-required", false},
		{"GET", "/_/operations/x", "no-operation", true},
		{"PUT", "/_/operations/x", "method-refused", true},
		{"DELETE", "/_/operations/x", "no-operation", true},
		{"DELETE", "/_/hooks/x", "key-required", false},
		{"DELETE", "/_/hooks/x", "no-operation", true},
		{"GET", "/_/other", "not-found", true},
		{"GET", "/_", "not-found", true},
		{"DELETE", "/orders", "policy-refused", true},
	} {
		fields := []string{}
		if c.key {
			fields = []string{"X-API-Key", f.key}
		}
		resp := f.send(c.method, f.at("flow", c.path), "", fields...)
		if p := readProblem(t, resp); p.Error.Code != c.code || !strings.Contains(p.Error.Message, p.Title) {
			t.Errorf("%s %s: %+v, want %s", c.method, c.path, p, c.code)
		}
	}
	f.agent.stop(t)
	resp := f.do("GET", f.at("flow", "/_/ping"), "")
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || !strings.Contains(string(b), `"linked":false`) {
		t.Errorf("a ping without an agent: %d %s", resp.StatusCode, b)
	}
	if p := readProblem(t, f.do("GET", f.at("flow", "/_/ping?link=required"), "")); p.Error.Code != "no-agent" {
		t.Errorf("a ping that demands a link: %+v", p)
	}
}
