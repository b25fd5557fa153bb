// Package lockout keeps those who guess passwords through the agent from locking accounts of the domain. It stands before
// every logon with a caller's password: the same wrong password is not tried again for a while, and at most a few failed
// logons of one account reach the domain. It knows passwords as keyed digests alone, and forgets all when the agent ends.
//
// It signs nobody on and knows no domain: who asks for leave tells it what became of the logon, once.
//
//	try, err := guard.Enter(ctx, `CORP\ann`, password)   // *Refused: not to be tried now
//	...                                                  // sign on
//	try.End(lockout.Wrong)
package lockout

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

const (
	// Window is for how long a failed logon counts, and a wrong password is not tried again. Domains that lock accounts count
	// over 10 to 30 minutes as a rule.
	Window = 30 * time.Minute
	// MostFailures of one account reach the domain in each window. Domains lock after five wrong passwords or more, if not
	// set up more strictly than Microsoft advises.
	MostFailures = 3
	// trusted is for how long a password that was right is tried although its account has had too many failures.
	trusted = time.Hour
	// maxAccounts bounds the table. While it is full of accounts with something to remember, no others are tried.
	maxAccounts = 16384
)

// A Verdict is what became of a logon.
type Verdict int

// The verdicts.
const (
	Untold Verdict = iota // nobody has judged the password
	Right                 // the domain has accepted it
	Wrong                 // the domain has refused it, or the account
)

// A Refused says that a password is not tried now.
type Refused struct {
	// Known says that this very password was wrong a while ago.
	Known bool
	// Wait is when the account is tried again; zero if Known.
	Wait time.Duration
}

func (e *Refused) Error() string {
	if e.Known {
		return fmt.Sprintf("the same password was refused less than %s ago; so as not to lock the account, it is not tried again", Window)
	}
	return fmt.Sprintf("%d logons of this account have failed within %s; so as not to lock it, no other password is tried for %s",
		MostFailures, Window, e.Wait.Round(time.Second))
}

type digest [sha256.Size]byte

// A Guard is safe for concurrent use.
type Guard struct {
	key   [32]byte
	clock func() time.Time

	mu       sync.Mutex // guards what follows
	accounts map[string]*account
}

type account struct {
	wrong    map[digest]time.Time // when each was refused: MostFailures at most but for passwords that were right before
	right    digest
	rightAt  time.Time       // zero: none
	trying   map[digest]bool // reserved: under way
	finished chan struct{}   // closed and replaced when a reservation ends
}

// New makes a Guard. Its key is of this process alone.
func New() *Guard {
	g := &Guard{clock: time.Now, accounts: map[string]*account{}}
	_, _ = rand.Read(g.key[:]) // never fails (crypto/rand)
	return g
}

// Proof is a keyed digest of account and password: equal for equal ones, and of no use outside of this process.
func (g *Guard) Proof(account, password string) string {
	d := g.digest(account, password)
	return hex.EncodeToString(d[:])
}

func (g *Guard) digest(account, password string) digest {
	h := hmac.New(sha256.New, g.key[:])
	fmt.Fprintf(h, "%d %s%s", len(account), account, password)
	return digest(h.Sum(nil))
}

// Account is what all spellings of an account's name have in common: the user part, without case, width, accents, and dots or
// spaces at its end. Which NetBIOS name belongs to which DNS domain is not known here, so accounts of the same name in two
// domains count as one, which errs on the safe side.
func Account(name string) string {
	// Folding comes first: a full-width @ or backslash must not hide the domain.
	name = norm.NFKD.String(strings.ToLower(norm.NFKD.String(name)))
	if _, user, ok := strings.Cut(name, `\`); ok {
		name = user
	}
	if i := strings.LastIndexByte(name, '@'); i > 0 {
		name = name[:i]
	}
	name = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Mn, unicode.Cf) {
			return -1
		}
		return r
	}, name)
	return strings.Trim(name, ". ")
}

// A Try is leave to show a password to the domain. It must be ended.
type Try struct {
	g      *Guard
	name   string
	digest digest
	known  bool // it was right within the hour, and holds no reservation
	once   sync.Once
}

// Enter gives leave to try a password, or *Refused. Tries are reserved: while as many of an account are under way as may still
// fail, or the same password is, it waits for one of them to end.
func (g *Guard) Enter(ctx context.Context, name, password string) (*Try, error) {
	name = Account(name)
	t := &Try{g: g, name: name, digest: g.digest(name, password)}
	for {
		wait, err := g.enter(t)
		if err != nil || wait == nil {
			return t, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another logon of this account: %w", context.Cause(ctx))
		}
	}
}

// enter makes one attempt to get leave; wait is what to wait for before the next.
func (g *Guard) enter(t *Try) (wait <-chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.clock()
	a := g.accounts[t.name]
	if a == nil {
		if !g.room(now) {
			return nil, &Refused{Wait: Window}
		}
		a = &account{wrong: map[digest]time.Time{}, trying: map[digest]bool{}, finished: make(chan struct{})}
		g.accounts[t.name] = a
	}
	a.forget(now)
	_, bad := a.wrong[t.digest]
	switch {
	case bad:
		return nil, &Refused{Known: true}
	case !a.rightAt.IsZero() && a.right == t.digest:
		t.known = true
		return nil, nil
	case len(a.wrong) >= MostFailures:
		return nil, &Refused{Wait: a.free(now)}
	case a.trying[t.digest] || len(a.wrong)+len(a.trying) >= MostFailures:
		return a.finished, nil
	}
	a.trying[t.digest] = true
	return nil, nil
}

// forget drops what has had its time.
func (a *account) forget(now time.Time) {
	for d, at := range a.wrong {
		if now.Sub(at) >= Window {
			delete(a.wrong, d)
		}
	}
	if now.Sub(a.rightAt) >= trusted {
		a.right, a.rightAt = digest{}, time.Time{}
	}
}

// free is when the next failure is forgotten that keeps others from being tried.
func (a *account) free(now time.Time) time.Duration {
	first := now
	for _, at := range a.wrong {
		if at.Before(first) {
			first = at
		}
	}
	return max(time.Second, first.Add(Window).Sub(now))
}

// room makes room for one more account. What protects an account is never dropped before its time.
func (g *Guard) room(now time.Time) bool {
	if len(g.accounts) < maxAccounts {
		return true
	}
	for name, a := range g.accounts {
		if a.forget(now); len(a.wrong) == 0 && len(a.trying) == 0 {
			delete(g.accounts, name)
		}
	}
	return len(g.accounts) < maxAccounts
}

// End tells what became of the logon. Only the first call counts.
func (t *Try) End(v Verdict) {
	t.once.Do(func() {
		g := t.g
		g.mu.Lock()
		defer g.mu.Unlock()
		a := g.accounts[t.name]
		if a == nil { // dropped from a full table, which only a try without a reservation lets happen
			return
		}
		if !t.known {
			delete(a.trying, t.digest)
			close(a.finished)
			a.finished = make(chan struct{})
		}
		switch now := g.clock(); v {
		case Right:
			a.right, a.rightAt = t.digest, now
			delete(a.wrong, t.digest)
		case Wrong:
			a.wrong[t.digest] = now
			if a.right == t.digest {
				a.right, a.rightAt = digest{}, time.Time{}
			}
		case Untold:
		}
	})
}
