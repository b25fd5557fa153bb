package gateway

import (
	"time"

	"sallyport/tunnel"
)

// PullEvery sets how soon after one another a definition is taken twice; before anything is offered.
func (r *Registry) PullEvery(d time.Duration) { r.puller.every = d }

// Old has the relay's start be long ago.
func (r *Registry) Old() { r.opened = time.Now().Add(-time.Hour) }

// FullAnchors are the most that is kept of one agent's record.
func FullAnchors(gateway, hash string, now time.Time) Anchors {
	a := Anchors{Gateway: gateway}
	for i := range keptDays {
		a.Days = append(a.Days, Anchor{N: uint64(i), Hash: hash, At: now.Add(time.Duration(i-keptDays-1) * 24 * time.Hour)})
	}
	for i := range keptAnchors {
		a.Recent = append(a.Recent, Anchor{N: uint64(keptDays + i), Hash: hash, At: now})
	}
	return a
}

// TakeAnchor adds a head.
func TakeAnchor(a Anchors, n uint64, hash string, now time.Time) (Anchors, error) {
	next, _, err := a.take(tunnel.AuditHead{N: n, Hash: hash}, now)
	return next, err
}
