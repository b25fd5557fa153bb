package link

import "time"

const (
	// leastCut is the shortest life that is taken for a cut by age. Below it the relay or the network is at fault, and a
	// replacement every few seconds would be worse than that.
	leastCut = 20 * time.Second
	// cutKept is how long a cut is believed in: the proxy may have been mended.
	cutKept = 6 * time.Hour
)

// A cut recognises that something on the way ends connections at a certain age, however busy they are: two links in a row
// lived equally long. It belongs to the goroutine of a slot. The zero value is ready.
type cut struct {
	last  time.Duration // how long the link before lived
	age   time.Duration // 0: no cut is known
	until time.Time     // how long age is believed in
}

// lost notes how long a link lived that was lost, and gives the age at which links are cut if that is recognised now.
func (c *cut) lost(lived time.Duration, now time.Time) time.Duration {
	before := c.last
	c.last = lived
	if lived < leastCut || before < leastCut {
		return 0
	}
	// The age is counted from the connection, the life from the end of the handshake; and ends are noticed late.
	if apart := (lived - before).Abs(); apart > time.Second+lived/20 {
		return 0
	}
	c.age, c.until = min(lived, before), now.Add(cutKept)
	return c.age
}

// within shortens the time after which a link is replaced, so that it happens before the cut.
func (c *cut) within(rotation time.Duration, now time.Time) time.Duration {
	if c.age == 0 || now.After(c.until) {
		return rotation
	}
	return min(rotation, c.age*3/4)
}
