package connector_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/tunnel"
)

// dying is an agent that has the request and then loses its link; the second one answers. Both count.
func dying(t *testing.T, first func(*tunnel.Stream)) (r *rig, ran *[2]atomic.Int64) {
	t.Helper()
	ran = &[2]atomic.Int64{}
	got := make(chan struct{}, 16)
	r = start(t, func(s *tunnel.Stream) {
		ran[0].Add(1)
		if first != nil {
			first(s)
		}
		got <- struct{}{}
		<-s.Context().Done()
	}, settings{second: func(s *tunnel.Stream) {
		ran[1].Add(1)
		respond(200, "from the second")(s)
	}})
	go func() {
		select {
		case <-got:
			r.links[0].Close("it dies")
		case <-time.After(20 * time.Second):
		}
	}()
	return r, ran
}

func TestWhatALostLinkDoesToARequest(t *testing.T) {
	for name, c := range map[string]struct {
		method, body string
		repeated     bool
	}{
		"GET":             {"GET", "", true},
		"HEAD":            {"HEAD", "", true},
		"DELETE":          {"DELETE", "", true},
		"PUT, bare":       {"PUT", "", true},
		"PUT with a body": {"PUT", "x", false},
		"GET with a body": {"GET", "x", false},
		"POST, bare":      {"POST", "", false},
		"POST":            {"POST", "x", false},
		"PATCH, bare":     {"PATCH", "", false},
		"an own method":   {"BOOK", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, ran := dying(t, nil)
			var body io.Reader
			if c.body != "" {
				body = strings.NewReader(c.body)
			}
			began := time.Now()
			resp := r.do(t, http.DefaultClient, c.method, "/plant1/orders/x", body)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the answer took %s", took)
			}
			if c.repeated {
				if resp.StatusCode != 200 || ran[0].Load() != 1 || ran[1].Load() != 1 {
					t.Errorf("answered %s, run %d and %d times", resp.Status, ran[0].Load(), ran[1].Load())
				}
				return
			}
			var p struct {
				Executed string
				Error    struct{ Code string }
			}
			_ = json.NewDecoder(resp.Body).Decode(&p)
			if resp.StatusCode != 502 || p.Error.Code != "link-lost" || p.Executed != "unknown" {
				t.Errorf("answered %s, %+v", resp.Status, p)
			}
			if ran[0].Load() != 1 || ran[1].Load() != 0 {
				t.Errorf("run %d and %d times", ran[0].Load(), ran[1].Load())
			}
		})
	}
}

// An answer that has begun is not begun again: it breaks off.
func TestABegunAnswerIsNotRepeated(t *testing.T) {
	t.Parallel()
	r, ran := dying(t, func(s *tunnel.Stream) {
		_ = s.SendResponse(&tunnel.Response{Status: 200, Header: http.Header{}, ContentLength: 100}, false)
		_, _ = s.Write([]byte("half of"))
		time.Sleep(200 * time.Millisecond) // until the relay has it
	})
	resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil)
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the body ended with %v", err)
	}
	if ran[1].Load() != 0 {
		t.Error("the request was run again")
	}
}

// A request is repeated once: a second death is told, though there is a third link.
func TestARequestIsRepeatedOnce(t *testing.T) {
	t.Parallel()
	var ran atomic.Int64
	var r *rig
	die := func(which int) func(*tunnel.Stream) {
		return func(s *tunnel.Stream) {
			ran.Add(1)
			go r.links[which].Close("it dies")
			<-s.Context().Done()
		}
	}
	r = start(t, die(0), settings{second: die(1), third: func(s *tunnel.Stream) {
		ran.Add(1)
		respond(200, "from the third")(s)
	}})
	if resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil); resp.StatusCode != 502 || ran.Load() != 2 {
		t.Errorf("answered %s, run %d times", resp.Status, ran.Load())
	}
}

// The second link says that it did not run the request. The first one may have: the outcome is unknown.
func TestARefusalAfterALossIsNoCertainty(t *testing.T) {
	t.Parallel()
	var r *rig
	r = start(t, func(s *tunnel.Stream) {
		go r.links[0].Close("it dies")
		<-s.Context().Done()
	}, settings{second: func(s *tunnel.Stream) { s.Reset(tunnel.Refused, "busy") }})
	resp := r.do(t, http.DefaultClient, "GET", "/plant1/orders/x", nil)
	var p struct {
		Executed string
		Error    struct{ Code string }
	}
	_ = json.NewDecoder(resp.Body).Decode(&p)
	if resp.StatusCode != 502 || p.Error.Code != "link-lost" || p.Executed != "unknown" {
		t.Errorf("answered %s, %+v", resp.Status, p)
	}
}
