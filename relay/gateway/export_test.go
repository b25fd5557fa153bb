package gateway

import "time"

// PullEvery sets how soon after one another a definition is taken twice; before anything is offered.
func (r *Registry) PullEvery(d time.Duration) { r.puller.every = d }
