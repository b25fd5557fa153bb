package gateway

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"sallyport/relay/store"
	"sallyport/tunnel"
)

const (
	// pullEvery is how soon after one another an API's definition is taken twice, and how long a failed one waits.
	pullEvery = time.Minute
	// pullTries bounds how often one definition is asked for.
	pullTries = 5
	// pullTimeout bounds one definition on its way; pullSilence each wait for its next bytes.
	pullTimeout = 2 * time.Minute
	pullSilence = 20 * time.Second
	// maxPulls bounds how many definitions wait to be taken; offers beyond it wait for the agent's next one.
	maxPulls = 8192
	// definitionNone is an offer's word for: forget what there is.
	definitionNone = "none"
)

// A puller takes over the definitions that agents offer, one after the other and in the background.
type puller struct {
	every time.Duration // pullEvery, except in tests
	wake  chan struct{} // capacity 1

	mu     sync.Mutex
	wanted map[apiName]pull      // guarded by mu
	taken  map[apiName]time.Time // when one was taken last; guarded by mu
}

type apiName struct{ gateway, api string }

func (n apiName) String() string { return n.gateway + "/" + n.api }

// A pull is a definition to take from the agent that has offered it.
type pull struct {
	link   *Link
	digest string
	due    time.Time
	tries  int
}

func newPuller() *puller {
	return &puller{every: pullEvery, wake: make(chan struct{}, 1), wanted: map[apiName]pull{}, taken: map[apiName]time.Time{}}
}

// want notes what an agent offers. The newest offer counts: agents of one gateway have the same definitions, apart from the
// time of a change.
func (p *puller) want(l *Link, o *Offer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, api := range o.APIs {
		name := apiName{l.Gateway, api.Name}
		if _, waits := p.wanted[name]; api.Definition == "" || !waits && len(p.wanted) >= maxPulls {
			continue
		}
		p.wanted[name] = pull{link: l, digest: api.Definition, due: p.taken[name].Add(p.every)}
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// next takes a definition that is due, or says how long it is until one is.
func (p *puller) next(now time.Time) (name apiName, one pull, wait time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait = time.Hour
	for n, w := range p.wanted {
		if left := w.due.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		delete(p.wanted, n)
		return n, w, 0, true
	}
	for n, at := range p.taken { // of no use any more
		if now.Sub(at) > p.every {
			delete(p.taken, n)
		}
	}
	return apiName{}, pull{}, wait, false
}

// done notes the end of a pull; a failed one waits for its turn again, unless there is a newer one.
func (p *puller) done(name apiName, one pull, again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.taken[name] = now
	if _, newer := p.wanted[name]; newer || !again || one.tries+1 >= pullTries {
		return
	}
	one.tries++
	one.due = now.Add(p.every)
	p.wanted[name] = one
}

// pull takes definitions until ctx ends.
func (r *Registry) pull(ctx context.Context) {
	for {
		name, one, wait, ok := r.puller.next(time.Now())
		if !ok {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-timer.C:
			case <-r.puller.wake:
			}
			timer.Stop()
			if ctx.Err() != nil {
				return
			}
			continue
		}
		if err := r.take(ctx, name, one); err != nil && ctx.Err() == nil {
			gone := one.link.Err() != nil // the agent offers it again when it is back
			if !gone {
				r.c.Log.Warn("the definition of an API could not be taken over; the one before stays", "gateway", name.gateway, "api", name.api,
					"agent", one.link.Agent, "try", one.tries+1, "error", err)
			}
			r.puller.done(name, one, !gone)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// take brings what the store has of one API in line with what was offered.
func (r *Registry) take(ctx context.Context, name apiName, one pull) error {
	info, err := r.definitions.Info(ctx, name.gateway, name.api)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	case err == nil && info.Digest == one.digest, err != nil && one.digest == definitionNone:
		return nil
	case one.digest == definitionNone:
		r.c.Log.Info("the agent wants its definition forgotten", "gateway", name.gateway, "api", name.api)
		return r.definitions.Delete(ctx, name.gateway, name.api)
	}
	body, err := fetchDefinition(ctx, one.link, name.api, one.digest)
	if err != nil {
		return err
	}
	if !r.Exists(name.gateway) {
		return nil
	}
	if err := r.definitions.Put(ctx, name.gateway, name.api, store.Definition{Digest: one.digest, Body: body, At: time.Now().UTC()}); err != nil {
		return err
	}
	if !r.Exists(name.gateway) { // removed meanwhile
		return r.definitions.Delete(ctx, name.gateway, name.api)
	}
	r.puller.done(name, one, false)
	r.c.Log.Info("definition taken over", "gateway", name.gateway, "api", name.api, "agent", one.link.Agent, "bytes", len(body), "digest", one.digest)
	return nil
}

// fetchDefinition asks an agent for a definition, by a stream of its own (tunnel/SPEC.md section 9).
func fetchDefinition(ctx context.Context, l *Link, api, digest string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	st, err := l.Open(&tunnel.Request{
		ID: "definition-" + tunnel.NewCode(), Method: http.MethodGet, Target: "/definitions/" + api + "/" + digest, Header: http.Header{},
	}, true)
	if err != nil {
		return nil, fmt.Errorf("ask for the definition: %w", err)
	}
	defer context.AfterFunc(ctx, func() { st.Reset(tunnel.TimedOut, "the definition takes too long") })()
	st.SetReadTimeout(pullSilence)
	head, err := st.ReadResponse(ctx)
	if err == nil && head.Status != http.StatusOK {
		err = fmt.Errorf("the agent answers %d", head.Status)
	}
	var body []byte
	if err == nil {
		body, err = unpackDefinition(st)
	}
	if err != nil {
		st.Reset(tunnel.Cancelled, "the definition is not wanted any more")
		return nil, fmt.Errorf("take the definition: %w", err)
	}
	switch {
	case store.DigestOf(body) != digest:
		return nil, errors.New("what the agent sent is not what it offered: the digest differs")
	case !json.Valid(body):
		return nil, errors.New("what the agent sent is not JSON")
	}
	return body, nil
}

// unpackDefinition reads a stream to its end, within bounds: what an agent sends is foreign.
func unpackDefinition(r io.Reader) ([]byte, error) {
	z, err := gzip.NewReader(io.LimitReader(r, store.MaxDefinition+1<<20))
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(z, store.MaxDefinition+1))
	if err == nil && len(body) > store.MaxDefinition {
		err = fmt.Errorf("it has more than %d bytes", store.MaxDefinition)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(r, 1<<10)) // the end of the stream
	}
	return body, err
}

// isDigest reports whether an offer names a definition as it should; the digest becomes part of a request.
func isDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}
