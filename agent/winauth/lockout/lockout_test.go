package lockout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// try shows a password to a domain where only right is right, and says how Enter refused.
func try(t *testing.T, g *Guard, name, password, right string) (reached bool, refused *Refused) {
	t.Helper()
	tr, err := g.Enter(t.Context(), name, password)
	if err != nil {
		var ok bool
		if refused, ok = errors.AsType[*Refused](err); !ok {
			t.Fatal(err)
		}
		return false, refused
	}
	v := Wrong
	if password == right {
		v = Right
	}
	tr.End(v)
	return true, nil
}

// TestSpellings: one account, however it is written.
func TestSpellings(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		`CORP\ann`, `corp\ANN`, "ann@corp.example", "Ann@CORP.EXAMPLE.", `corp.example\ann`, `CORP\ann.`, `CORP\ann `, `CORP\ａｎｎ`,
		"ann＠corp.example", `CORP＼ann`, `CORP\a` + "\u200d" + `nn`, `CORP\ánn`,
	} {
		if got := Account(name); got != "ann" {
			t.Errorf("%q is %q", name, got)
		}
	}
}

// TestTheSameWrongPassword rests for half an hour, in any spelling of its account.
func TestTheSameWrongPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New()
		if reached, _ := try(t, g, `CORP\ann`, "bad", "good"); !reached {
			t.Fatal("the first try did not reach the domain")
		}
		time.Sleep(Window - time.Second)
		if reached, r := try(t, g, "ANN@corp.example", "bad", "good"); reached || !r.Known {
			t.Errorf("tried again too early: %v", r)
		}
		time.Sleep(time.Second)
		if reached, _ := try(t, g, `CORP\ann`, "bad", "good"); !reached {
			t.Error("not tried again after its rest")
		}
	})
}

// TestThreeFailures shut the account, except for a password that was right within the hour.
func TestThreeFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New()
		try(t, g, `CORP\ann`, "good", "good")
		for i := range 10 {
			if reached, r := try(t, g, `CORP\ann`, fmt.Sprint("bad", i), "good"); reached != (i < MostFailures) {
				t.Errorf("guess %d reached the domain: %v %v", i, reached, r)
			} else if r != nil && (r.Known || r.Wait != Window) {
				t.Errorf("guess %d: %+v", i, r)
			}
		}
		if reached, _ := try(t, g, "ann@corp.example", "good", "good"); !reached {
			t.Error("the guesses shut out who knows the password")
		}
		if reached, _ := try(t, g, `CORP\bob`, "bad", "good"); !reached {
			t.Error("another account is shut out")
		}
		if reached, _ := try(t, g, `CORP\ann`, "new", "new"); reached {
			t.Error("another password was tried after three failures")
		}
		time.Sleep(Window)
		if reached, _ := try(t, g, `CORP\ann`, "new", "new"); !reached {
			t.Error("still shut when the failures are forgotten")
		}
	})
}

// TestConcurrentGuesses cannot pass the bound, and many callers with one right password all get in.
func TestConcurrentGuesses(t *testing.T) {
	t.Parallel()
	g := New()
	var reached atomic.Int64
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			tr, err := g.Enter(t.Context(), `CORP\ann`, fmt.Sprint("bad", i))
			if err == nil {
				reached.Add(1)
				time.Sleep(time.Millisecond)
				tr.End(Wrong)
			}
		})
		wg.Go(func() {
			tr, err := g.Enter(t.Context(), `CORP\bob`, "good")
			if err != nil {
				t.Error(err)
				return
			}
			tr.End(Right)
		})
	}
	wg.Wait()
	if n := reached.Load(); n != MostFailures {
		t.Errorf("%d guesses reached the domain", n)
	}
}

// TestUntold gives the reservation back, and who waits can leave.
func TestUntold(t *testing.T) {
	t.Parallel()
	g := New()
	first, err := g.Enter(t.Context(), `CORP\ann`, "good")
	if err != nil {
		t.Fatal(err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := g.Enter(gone, `CORP\ann`, "good"); !errors.Is(err, context.Canceled) {
		t.Errorf("who has left got %v", err)
	}
	first.End(Untold)
	second, err := g.Enter(t.Context(), `CORP\ann`, "good")
	if err != nil {
		t.Fatal(err)
	}
	second.End(Wrong)
	second.End(Right)
	if _, r := try(t, g, `CORP\ann`, "good", "good"); r == nil || !r.Known {
		t.Error("the second word about a try counted")
	}
}
