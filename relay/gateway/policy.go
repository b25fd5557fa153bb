package gateway

import (
	"context"
	"encoding/json"
	"time"
)

// ControlPolicy is the kind of the control message that tells of a change of an agent's allow-list, or of a file that it has
// refused; the body is a PolicyNotice.
const ControlPolicy = "policy"

// A PolicyNotice tells of hashes; the rules stay inside.
type PolicyNotice struct {
	Policy string `json:"policy"`
	Was    string `json:"was,omitempty"`
	// Refused is why a file was not put in force: unsigned or invalid.
	Refused string `json:"refused,omitempty"`
}

const (
	// maxNotices bounds the notices of one link that wait to be written down; what is beyond is for the log alone.
	maxNotices = 32
	// noticePause is between two of a link's: an agent must not fill the admins' log.
	noticePause = time.Second
	// noticeTimeout bounds the writing of one.
	noticeTimeout = 10 * time.Second
)

// notice takes a notice, in the link's reader, and leaves the writing to another goroutine.
func (r *Registry) notice(l *Link, body []byte) {
	var n PolicyNotice
	if err := json.Unmarshal(body, &n); err != nil {
		return // of a newer version
	}
	n.Policy, n.Was, n.Refused = labelUpTo(n.Policy, maxHash), labelUpTo(n.Was, maxHash), label(n.Refused)
	r.c.Log.Info("an agent tells of its policy", "gateway", l.Gateway, "agent", l.Agent, "policy", n.Policy, "was", n.Was, "refused", n.Refused)
	if l.notices == nil { // most links never need it; the reader alone comes here
		l.notices = make(chan PolicyNotice, maxNotices)
	}
	select {
	case l.notices <- n:
	default:
		r.c.Log.Warn("an agent tells of its policy more often than admins can want to know", "gateway", l.Gateway, "agent", l.Agent)
		return
	}
	if l.noticing.CompareAndSwap(false, true) {
		r.serving.Go(func() { r.writeNotices(l) })
	}
}

// writeNotices puts a link's notices among the admins' events, until there are none or the link has ended; then the rest at once.
func (r *Registry) writeNotices(l *Link) {
	for {
		select {
		case n := <-l.notices:
			ctx, cancel := context.WithTimeout(context.Background(), noticeTimeout)
			if n.Refused != "" {
				r.event(ctx, l, "policy file refused", map[string]any{"policy": n.Policy, "detail": n.Refused})
			} else {
				r.event(ctx, l, "policy changed", map[string]any{"policy": n.Policy, "was": n.Was})
			}
			cancel()
			pauseOn(l, noticePause)
		default:
			l.noticing.Store(false)
			if len(l.notices) == 0 || !l.noticing.CompareAndSwap(false, true) {
				return
			}
		}
	}
}
