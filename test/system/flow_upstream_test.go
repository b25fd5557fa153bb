//go:build linux

package system

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A flowAPI is an internal API that speaks the patterns that flows know, below /api: polling and webhook triggers,
// paging, messages in chunks, throttling, long work. It writes absolute links with its own, internal address.
type flowAPI struct {
	url    string
	orders atomic.Int32
	began  chan struct{} // one for each call of /api/long
	finish chan struct{} // lets one of them end
	left   chan struct{} // one for each whose caller has gone

	mu     sync.Mutex // guards what follows
	upload []byte
	hooks  map[string]string // by ID: the callback
}

func newFlowAPI(t *testing.T) *flowAPI {
	f := &flowAPI{
		began: make(chan struct{}, 100), finish: make(chan struct{}), left: make(chan struct{}, 100), hooks: map[string]string{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/events", f.events)
	mux.HandleFunc("GET /api/pages", f.pages)
	mux.HandleFunc("GET /api/file", f.file)
	mux.HandleFunc("POST /api/upload", f.beginUpload)
	mux.HandleFunc("PATCH /api/upload/{id}", f.takeChunk)
	mux.HandleFunc("POST /api/throttled", f.throttled)
	mux.HandleFunc("POST /api/hooks", f.subscribe)
	mux.HandleFunc("DELETE /api/hooks/{id}", f.unsubscribe)
	mux.HandleFunc("POST /api/orders", f.order)
	mux.HandleFunc("POST /api/long", f.long)
	s := httptest.NewServer(mux)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	f.url = s.URL + "/api"
	return f
}

// events is a polling trigger: 202 while there is nothing new, then the events, then 202 again.
func (f *flowAPI) events(w http.ResponseWriter, r *http.Request) {
	state, _ := strconv.Atoi(r.URL.Query().Get("triggerState"))
	w.Header().Set("Location", fmt.Sprintf("%s/events?triggerState=%d", f.url, state+1))
	if state == 1 {
		w.Header().Set("Retry-After", "0")
		fmt.Fprint(w, `[{"order":1}]`)
		return
	}
	w.Header().Set("Retry-After", "15")
	w.WriteHeader(http.StatusAccepted)
}

func (f *flowAPI) pages(w http.ResponseWriter, r *http.Request) {
	skip, _ := strconv.Atoi(r.URL.Query().Get("skip"))
	if skip < 4 {
		w.Header().Set("Link", fmt.Sprintf(`<%s/pages?skip=%d>; rel="next"`, f.url, skip+2))
	}
	fmt.Fprintf(w, `[%d,%d]`, skip, skip+1)
}

var fileText = strings.Repeat("0123456789", 1000)

// file answers ranges, as Logic Apps asks for a large message.
func (f *flowAPI) file(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "file.bin", staticTime, strings.NewReader(fileText))
}

func (f *flowAPI) beginUpload(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Ms-Transfer-Mode") != "chunked" || r.Header.Get("X-Ms-Content-Length") != "10000" || r.ContentLength != 0 {
		http.Error(w, "this is not how chunks begin", http.StatusBadRequest)
		return
	}
	w.Header().Set("Location", f.url+"/upload/7")
	w.Header().Set("X-Ms-Chunk-Size", "4096")
}

func (f *flowAPI) takeChunk(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, _ := io.ReadAll(r.Body)
	var from, to, total int
	if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes=%d-%d/%d", &from, &to, &total); err != nil || from != len(f.upload) || to-from+1 != len(b) {
		http.Error(w, "bad range "+r.Header.Get("Content-Range"), http.StatusBadRequest)
		return
	}
	f.upload = append(f.upload, b...)
	w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", len(f.upload)-1))
	w.Header().Set("X-Ms-Chunk-Size", "4096")
}

func (f *flowAPI) throttled(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "7")
	http.Error(w, "slow down", http.StatusTooManyRequests)
}

func (f *flowAPI) subscribe(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	id := fmt.Sprint(len(f.hooks) + 1)
	f.hooks[id] = string(b)
	w.Header().Set("Location", f.url+"/hooks/"+id)
	w.WriteHeader(http.StatusCreated)
}

func (f *flowAPI) unsubscribe(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.hooks, r.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
}

func (f *flowAPI) subscriptions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.hooks)
}

func (f *flowAPI) order(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, "order %d: %s", f.orders.Add(1), b)
}

func (f *flowAPI) long(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	f.orders.Add(1)
	f.began <- struct{}{}
	select {
	case <-f.finish:
		w.Header().Set("Location", f.url+"/reports/9")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "report of %s", b)
	case <-r.Context().Done():
		f.left <- struct{}{}
	}
}
