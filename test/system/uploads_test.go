//go:build linux

package system

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestStuckUploadsLeaveRoomOnTheirConnection: a balancer sends many callers' requests over one HTTP/2 connection, whose window for
// bodies all of them share. Uploads that their API does not take must not use it up.
func TestStuckUploadsLeaveRoomOnTheirConnection(t *testing.T) {
	t.Parallel()
	const stuck = 40
	var began atomic.Int64
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/stuck", func(http.ResponseWriter, *http.Request) {
		began.Add(1)
		<-release
	})
	mux.HandleFunc("/digest", digest)
	api1 := httptest.NewServer(mux)
	b := ready(t, racy, []string{"web"}, api("web", api1.URL, "", everything))
	c := b.client(2)
	uploading, leave := context.WithCancel(t.Context())
	t.Cleanup(func() {
		leave()
		close(release)
		api1.CloseClientConnections()
		api1.Close()
	})
	for range stuck {
		req, err := http.NewRequestWithContext(uploading, http.MethodPost, b.at("web", "/stuck"), sized{patternReader(64 << 20), 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if resp, err := c.Do(req); err == nil {
				resp.Body.Close()
			}
		}()
	}
	eventually(t, 20*time.Second, "the uploads are under way", func() bool { return began.Load() == stuck })
	time.Sleep(time.Second) // until what lies between caller and API is full
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	const body = "a body of another caller's"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.at("web", "/digest"), io.NopCloser(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("beside %d stuck uploads: %v", stuck, err)
	}
	defer resp.Body.Close()
	want(t, resp, http.StatusOK)
	if got := text(t, resp); !strings.HasPrefix(got, "26 ") {
		t.Errorf("the API read %q, want 26 bytes", got)
	}
}
