package connector

import "time"

// Bounds are those of the Options that can change while the relay runs; they mean the same there, zero the default too.
type Bounds struct {
	BodyLimit                                   int64
	Concurrent, ConcurrentEach                  int
	AnswerTimeout, PlatformTimeout, IdleTimeout time.Duration
}

func (o *Options) bounds() *Bounds {
	return &Bounds{
		BodyLimit: o.BodyLimit, Concurrent: o.Concurrent, ConcurrentEach: o.ConcurrentEach,
		AnswerTimeout: o.AnswerTimeout, PlatformTimeout: o.PlatformTimeout, IdleTimeout: o.IdleTimeout,
	}
}

// Rebound puts other bounds in force. They count for what is looked at from now on, in calls under way too; no call is ended
// because there are more than there may be now.
func (p *Proxy) Rebound(b Bounds) {
	o := Options{
		BodyLimit: b.BodyLimit, Concurrent: b.Concurrent, ConcurrentEach: b.ConcurrentEach,
		AnswerTimeout: b.AnswerTimeout, PlatformTimeout: b.PlatformTimeout, IdleTimeout: b.IdleTimeout,
	}
	o.defaults()
	p.bounds.Store(o.bounds())
}
