package connector

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"
)

const (
	// maxUsers bounds the users of one connector.
	maxUsers = 256
	// minPassword and maxPassword bound a password, in bytes. Nobody types these: a connection keeps them.
	minPassword = 12
	maxPassword = 256

	// What argon2id costs for each new hash: OWASP's recommendation for servers. A hash keeps the cost it was made with.
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonBytes  = 32
	saltBytes   = 16

	// logonsAtOnce bounds the verifications that run, and with them their memory (19 MiB each).
	logonsAtOnce = 4
	// logonWait is how long a call waits for its turn.
	logonWait = 3 * time.Second
	// logonLife is for how long a password that was right is known to be right, so that a call does not cost a hash.
	logonLife = 5 * time.Minute
	// maxLogons bounds what is known.
	maxLogons = 8192
)

// A User calls a connector with name and password (Basic, RFC 7617).
type User struct {
	Name string `json:"name"`
	// Salt and Hash are argon2id's (RFC 9106), Time and Memory what it cost.
	Salt    []byte    `json:"salt"`
	Hash    []byte    `json:"hash"`
	Time    uint32    `json:"time"`
	Memory  uint32    `json:"memory"`
	Created time.Time `json:"created"`
}

// UserInfo is what can be told of a user.
type UserInfo struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

func makeUser(name, password string) User {
	u := User{Name: name, Salt: make([]byte, saltBytes), Time: argonTime, Memory: argonMemory, Created: time.Now().UTC()}
	_, _ = rand.Read(u.Salt) // never fails (crypto/rand)
	u.Hash = u.derive(password)
	return u
}

func (u *User) derive(password string) []byte {
	return argon2.IDKey([]byte(password), u.Salt, u.Time, u.Memory, 1, argonBytes)
}

// SetUser makes a user of the connector's, or gives one that is there another password.
func (d *Directory) SetUser(ctx context.Context, gateway, connector, name, password string) (UserInfo, error) {
	if err := checkKeyName("user", name); err != nil {
		return UserInfo{}, err
	}
	if len(password) < minPassword || len(password) > maxPassword || strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return UserInfo{}, &Invalid{Problems: []string{fmt.Sprintf("password: use %d to %d bytes, without control characters", minPassword, maxPassword)}}
	}
	if e, ok := d.entries.Get(gateway + "/" + connector); !ok {
		return UserInfo{}, unknownConnector(gateway, connector)
	} else if !e.Takes(AuthBasic) {
		return UserInfo{}, takesNoUsers(e)
	}
	u := makeUser(name, password)
	err := d.change(ctx, gateway, connector, func(e entry) (entry, error) {
		if !e.Takes(AuthBasic) {
			return e, takesNoUsers(e)
		}
		e.Users = slices.DeleteFunc(slices.Clone(e.Users), func(old User) bool { return old.Name == name })
		if len(e.Users) >= maxUsers {
			return e, &Invalid{Problems: []string{fmt.Sprintf("connector %s has %d users already; remove some first", e.path(), maxUsers)}}
		}
		e.Users = append(e.Users, u)
		return e, nil
	})
	return UserInfo{Name: u.Name, Created: u.Created}, err
}

func takesNoUsers(e entry) error {
	return &Invalid{Problems: []string{fmt.Sprintf("connector %s does not take user names and passwords (its auth is %s); publish it with --auth basic",
		e.path(), strings.Join(e.Auth, ", "))}}
}

// ListUsers returns the users of a connector, by name.
func (d *Directory) ListUsers(gateway, connector string) ([]UserInfo, error) {
	e, ok := d.entries.Get(gateway + "/" + connector)
	if !ok {
		return nil, unknownConnector(gateway, connector)
	}
	out := make([]UserInfo, 0, len(e.Users))
	for _, u := range e.Users {
		out = append(out, UserInfo{Name: u.Name, Created: u.Created})
	}
	slices.SortFunc(out, func(a, b UserInfo) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// RemoveUser takes a user away; the password stops working when the call returns.
func (d *Directory) RemoveUser(ctx context.Context, gateway, connector, name string) error {
	return d.change(ctx, gateway, connector, func(e entry) (entry, error) {
		users := slices.DeleteFunc(slices.Clone(e.Users), func(u User) bool { return u.Name == name })
		if len(users) == len(e.Users) {
			return e, fmt.Errorf("%w %.80q of connector %s; 'sallyport-relay user list %s' shows its users", ErrUnknownUser, name, e.path(), e.path())
		}
		e.Users = users
		return e, nil
	})
}

// basicCredentials reads the value of an Authorization field (RFC 7617 section 2).
func basicCredentials(value string) (name, password string, ok bool) {
	scheme, encoded, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Basic") || len(encoded) > 2*maxPassword+2*maxKeyName {
		return "", "", false
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Trim(encoded, " "))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(raw), ":")
}

// logons verifies passwords within bounds, and knows for a while which were right. What it knows it keeps as a MAC under
// a key of this process, never as the password.
type logons struct {
	key   [32]byte
	slots chan struct{}
	// nobody stands in for users that do not exist, so that the time of an answer does not tell which do.
	nobody User

	mu    *sync.Mutex // guards what follows
	right map[[32]byte]time.Time
}

func newLogons() logons {
	l := logons{slots: make(chan struct{}, logonsAtOnce), mu: &sync.Mutex{}, right: map[[32]byte]time.Time{}}
	_, _ = rand.Read(l.key[:]) // never fails (crypto/rand)
	l.nobody = User{Salt: l.key[:saltBytes], Hash: make([]byte, argonBytes), Time: argonTime, Memory: argonMemory}
	return l
}

// mac names a password of a user. The user's salt and hash are in it, so that a change of the password takes effect at once.
func (l *logons) mac(u *User, password string) (sum [32]byte) {
	h := hmac.New(sha256.New, l.key[:])
	h.Write(u.Salt)
	h.Write(u.Hash)
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}

// known says whether the password was found right a short while ago.
func (l *logons) known(u *User, password string, now time.Time) bool {
	sum := l.mac(u, password)
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(l.right[sum])
}

// verify says whether the password is u's, at the price of one hash; u is nil for a user that does not exist.
func (l *logons) verify(ctx context.Context, u *User, password string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, logonWait)
	defer cancel()
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return false, NewProblem("relay-busy", "The relay is verifying as many passwords as it may.").after(retryBusy)
	}
	real := u != nil
	if !real {
		u = &l.nobody
	}
	if same := subtle.ConstantTimeCompare(u.derive(password), u.Hash) == 1; !same || !real {
		return false, nil
	}
	l.learn(l.mac(u, password), time.Now())
	return true, nil
}

func (l *logons) learn(sum [32]byte, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	looked := 0
	for old, until := range l.right { // in no order; a few at each time, so that what has ended goes
		if looked++; now.After(until) || len(l.right) >= maxLogons {
			delete(l.right, old)
		}
		if looked > 32 {
			break
		}
	}
	l.right[sum] = now.Add(logonLife)
}
