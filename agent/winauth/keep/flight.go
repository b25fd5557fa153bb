package keep

import (
	"context"
	"errors"
	"sync"
)

// flights lets one of those that want the same thing get it, and the others wait for it. The one that works does so in
// its own goroutine and under its own context; when that ends, the next of the others takes over.
type flights[V any] struct {
	mu  sync.Mutex // guards now
	now map[string]*flight[V]
}

type flight[V any] struct {
	done  chan struct{} // closed when the rest is set
	value V
	err   error
	// abandoned says that the worker's own context ended first: then err says nothing about the thing wanted.
	abandoned bool
}

func (g *flights[V]) do(ctx context.Context, key string, work func(context.Context) (V, error)) (V, error) {
	for {
		g.mu.Lock()
		f, busy := g.now[key]
		if !busy {
			f = &flight[V]{done: make(chan struct{}), err: errors.New("the work was broken off")}
			if g.now == nil {
				g.now = make(map[string]*flight[V])
			}
			g.now[key] = f
		}
		g.mu.Unlock()
		if !busy {
			return g.fly(ctx, key, f, work)
		}
		select {
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		case <-f.done:
		}
		if f.abandoned && ctx.Err() == nil {
			continue // it was the other's time that ran out, not ours
		}
		return f.value, f.err
	}
}

func (g *flights[V]) fly(ctx context.Context, key string, f *flight[V], work func(context.Context) (V, error)) (V, error) {
	defer func() {
		g.mu.Lock()
		delete(g.now, key)
		g.mu.Unlock()
		close(f.done)
	}()
	f.value, f.err = work(ctx)
	f.abandoned = f.err != nil && ctx.Err() != nil
	return f.value, f.err
}
