package connector

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReboundKnowsTheDefaults(t *testing.T) {
	t.Parallel()
	p := NewProxy(Options{PublicURL: &url.URL{Scheme: "https", Host: "relay.example.com"}, Concurrent: 3, AnswerTimeout: time.Second})
	if b := p.bounds.Load(); b.Concurrent != 3 || b.AnswerTimeout != time.Second || b.ConcurrentEach != 2048 {
		t.Errorf("at the beginning: %+v", b)
	}
	p.Rebound(Bounds{BodyLimit: 5, IdleTimeout: time.Minute})
	want := &Bounds{
		BodyLimit: 5, Concurrent: 8192, ConcurrentEach: 2048,
		AnswerTimeout: 230 * time.Second, PlatformTimeout: 110 * time.Second, IdleTimeout: time.Minute,
	}
	if diff := cmp.Diff(want, p.bounds.Load()); diff != "" {
		t.Error(diff)
	}
}
