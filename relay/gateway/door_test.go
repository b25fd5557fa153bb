package gateway

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Those who find the door full wait for their turn, the longest first, and hold up nobody from another address; who waits too long,
// or has no place to wait, is refused. The log hears of that now and then, and nothing is left of anybody.
func TestTheDoor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		d := newDoorkeeper(slog.New(slog.NewTextHandler(&log, nil)))
		for range maxUnprovedAddress {
			if !d.enter(t.Context(), "a") {
				t.Fatal("there is room")
			}
		}
		var mu sync.Mutex
		var order []int
		var refused atomic.Int64
		var wg sync.WaitGroup
		for i := range maxWaitingAddress + 10 {
			wg.Go(func() {
				if !d.enter(t.Context(), "a") {
					refused.Add(1)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			})
			synctest.Wait()
		}
		if refused.Load() != 10 {
			t.Errorf("%d were refused at once, want 10", refused.Load())
		}
		if !d.enter(t.Context(), "b") {
			t.Error("another address is held up")
		}
		for range 3 {
			d.leave("a")
			synctest.Wait()
		}
		d.leave("b")
		synctest.Wait()
		if got := fmt.Sprint(order); got != "[0 1 2]" {
			t.Errorf("their turn: %s", got)
		}
		gone, leave := context.WithCancel(t.Context())
		wg.Go(func() { d.enter(gone, "a") })
		leave()
		time.Sleep(2 * doorWait)
		wg.Wait()
		if n := refused.Load(); n != 10+maxWaitingAddress-3 {
			t.Errorf("%d were refused", n)
		}
		for range maxUnprovedAddress {
			d.leave("a")
		}
		if d.all != 0 || len(d.byAddress) != 0 || len(d.waiting) != 0 {
			t.Errorf("left: %d, %v, %d", d.all, d.byAddress, len(d.waiting))
		}
		if n := strings.Count(log.String(), "links refused"); n != 1 {
			t.Errorf("the log has %d lines", n)
		}
	})
}

// The door is full for everybody once so many are inside, whatever their address; and so is the place to wait.
func TestTheDoorIsFullForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDoorkeeper(slog.New(slog.DiscardHandler))
		for i := range maxUnproved {
			if !d.enter(t.Context(), fmt.Sprint(i/maxUnprovedAddress)) {
				t.Fatal("there is room")
			}
		}
		var entered, refused atomic.Int64
		for i := range maxWaiting + 5 {
			go func() {
				if d.enter(t.Context(), fmt.Sprint("x", i)) {
					entered.Add(1)
				} else {
					refused.Add(1)
				}
			}()
		}
		synctest.Wait()
		if refused.Load() != 5 || entered.Load() != 0 {
			t.Errorf("%d entered and %d were refused at once", entered.Load(), refused.Load())
		}
		d.leave("0")
		synctest.Wait()
		if entered.Load() != 1 {
			t.Errorf("%d entered in the place of one", entered.Load())
		}
		time.Sleep(2 * doorWait)
		synctest.Wait()
		if len(d.waiting) != 0 || d.all != maxUnproved {
			t.Errorf("%d wait, %d inside", len(d.waiting), d.all)
		}
	})
}

// Nobody is sent away for the same time as the one before.
func TestLater(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for range 200 {
		d := later().Truncate(time.Second)
		if d < laterLeast || d >= laterMost {
			t.Fatal(d)
		}
		seen[d] = true
	}
	if len(seen) < 15 {
		t.Errorf("only %d different times", len(seen))
	}
}
