package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"sallyport/agent/audit"
	"sallyport/agent/definition"
	"sallyport/agent/upstream"
	"sallyport/tunnel"
)

const (
	// remakeEvery is how soon after one another a definition is made twice, whatever changes meanwhile.
	remakeEvery = 10 * time.Second
	// refetchEvery is how often an API is asked whether its document has changed, retryEvery how often after a failure.
	refetchEvery = 10 * time.Minute
	retryEvery   = time.Minute
	// maxKept bounds what the definitions of all APIs take in memory, compressed, in bytes.
	maxKept = 256 << 20
)

// A shipper knows what leaves of each API's definition. One goroutine makes it, see Agent.describe; streams of the relay's
// take it.
type shipper struct {
	changed chan struct{} // capacity 1: another configuration is in force

	mu   sync.Mutex
	kept map[string]shipment // by API; guarded by mu
}

// A shipment is a definition that is ready to leave.
type shipment struct {
	digest string // definitionNone: nothing leaves, and what the relay has is to go
	packed []byte // gzip
}

func newShipper() *shipper {
	return &shipper{changed: make(chan struct{}, 1), kept: map[string]shipment{}}
}

// wake tells the goroutine that there is another configuration.
func (s *shipper) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *shipper) get(api string) shipment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[api]
}

// keep takes a shipment over and says whether it is another one than before.
func (s *shipper) keep(api string, one shipment) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[api].digest == one.digest {
		return false, nil
	}
	total := len(one.packed)
	for name, other := range s.kept {
		if name != api {
			total += len(other.packed)
		}
	}
	if total > maxKept {
		return false, fmt.Errorf("the definitions of all APIs would take %d bytes of memory (at most %d may)", total, maxKept)
	}
	s.kept[api] = one
	return true, nil
}

// only forgets the definitions of APIs that are no more.
func (s *shipper) only(apis map[string]*api) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.kept {
		if apis[name] == nil {
			delete(s.kept, name)
		}
	}
}

// A watched is the source of one API's definition and what was seen of it. The goroutine of describe owns it.
type watched struct {
	source *source
	key    string // of everything in the configuration that shapes the result
	files  string // of the files
	due    time.Time
	said   string // the fault that was logged last
}

// describe keeps the definitions up to date until ctx ends.
func (a *Agent) describe(ctx context.Context) {
	all := map[string]*watched{}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		snap := a.now.Load()
		for name := range all {
			if snap.apis[name] == nil {
				delete(all, name)
			}
		}
		a.ship.only(snap.apis)
		changed := false
		for _, name := range snap.names {
			if ctx.Err() != nil {
				return
			}
			if all[name] == nil {
				all[name] = &watched{}
			}
			changed = a.look(ctx, all[name], snap.apis[name]) || changed
		}
		if changed {
			a.links.Each(a.offer)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-a.ship.changed:
		}
	}
}

// look makes the definition of one API if something about it has changed, and says whether another one leaves now.
func (a *Agent) look(ctx context.Context, w *watched, one *api) bool {
	now := time.Now()
	key := describeKey(one.from)
	if w.key != key {
		*w = watched{source: sourceOf(a.deps, one.from), key: key}
	}
	files := versions(w.source.files())
	switch {
	case w.source.upstream() && now.Before(w.due), !w.source.upstream() && w.files == files && !w.due.IsZero(), now.Before(w.due):
		return false
	}
	changed, err := a.remake(ctx, w, one)
	w.files, w.due = files, now.Add(remakeEvery)
	if w.source.upstream() {
		w.due = now.Add(refetchEvery)
		if err != nil {
			w.due = now.Add(retryEvery)
		}
	}
	if err == nil {
		w.said = ""
	} else if ctx.Err() == nil && w.said != err.Error() {
		w.said = err.Error()
		a.log.Warn("the definition of an API cannot be used; the relay keeps the one before", "api", one.name, "error", err)
	}
	return changed
}

func (a *Agent) remake(ctx context.Context, w *watched, one *api) (changed bool, err error) {
	if w.source.none() {
		return a.ship.keep(one.name, shipment{digest: definitionNone})
	}
	r, err := w.source.make(ctx, one.transport)
	if errors.Is(err, errUnchanged) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err = z.Write(r.Body)
	if err = errors.Join(err, z.Close()); err != nil {
		return false, fmt.Errorf("compress the definition: %w", err)
	}
	changed, err = a.ship.keep(one.name, shipment{digest: r.Digest, packed: packed.Bytes()})
	if err != nil {
		w.source.forget()
	}
	if changed {
		a.logShipment(one.name, r)
	}
	return changed, err
}

func (a *Agent) logShipment(name string, r *definition.Result) {
	a.log.Info("a definition is ready for the relay", "api", name, "form", r.Report.Form, "operations", r.Report.Operations,
		"cut", len(r.Report.Cut), "stripped", len(r.Report.Stripped)+r.Report.More, "bytes", len(r.Body), "digest", r.Digest)
	for _, w := range r.Report.Warnings {
		a.log.Warn("definition", "api", name, "warning", w)
	}
}

// describeKey names everything of an API's settings that shapes its definition.
func describeKey(from *API) string {
	data, err := json.Marshal(struct {
		Name, URL, Definition, Policy string
		Hosts, Rules                  []string
		Samples                       []Sample
	}{from.Name, from.URL, from.Definition, from.Policy().Hash(), from.LinkHosts, from.Policy().Rules(), from.Samples})
	if err != nil {
		panic(fmt.Sprintf("agent: an API's settings cannot be encoded: %v", err)) // plain strings
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// versions tells one content of files from another: by time and size, and by content while a file is so young that two
// changes could have the same time.
func versions(paths []string) string {
	var b strings.Builder
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", p, err)
			continue
		}
		fmt.Fprintf(&b, "%s: %d %d\n", p, info.ModTime().UnixNano(), info.Size())
		if time.Since(info.ModTime()) < 2*remakeEvery {
			data, _ := readBounded(p)
			fmt.Fprintf(&b, "%x\n", sha256.Sum256(data))
		}
	}
	return b.String()
}

// ownPrefix begins the targets of requests for the agent itself, which name no API: tunnel/SPEC.md section 9.
const ownPrefix = "/definitions/"

// serveOwn answers a request for the agent itself: GET /definitions/{api}/{digest}. No caller's request gets here: those
// name an API.
func (a *Agent) serveOwn(st upstream.Stream, in *tunnel.Request, e *audit.Event) {
	rest, ok := strings.CutPrefix(in.Target, ownPrefix)
	name, digest, _ := strings.Cut(rest, "/")
	one := a.ship.get(name)
	if !ok || in.Method != http.MethodGet || one.packed == nil || one.digest != digest {
		a.refuse(st, e, http.StatusNotFound, unknownProblem())
		return
	}
	e.Kind, e.API, e.Hash, e.Verdict = audit.Definition, name, digest, audit.Allowed
	head := &tunnel.Response{
		Status: http.StatusOK, ContentLength: int64(len(one.packed)),
		Header: http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}},
	}
	err := st.SendResponse(head, false)
	if err == nil {
		var n int
		n, err = st.Write(one.packed)
		e.Out = int64(n)
	}
	if err == nil {
		err = st.CloseWrite(nil)
	}
	if err != nil {
		st.Reset(tunnel.BrokenOff, "the definition could not be sent")
		a.log.Info("a definition did not leave whole", "api", name, "error", err)
		return
	}
	e.Status = http.StatusOK
	a.log.Info("a definition has left for the relay", "api", name, "digest", digest, "bytes", len(one.packed))
}
