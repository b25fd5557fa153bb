package agent

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"sallyport/agent/upstream"
	"sallyport/agent/winauth"
	"sallyport/agent/winauth/lockout"
)

const (
	// maxLogons bounds how many callers' credentials an API has in memory, logonKept for how long each is there: with it goes its
	// ticket.
	maxLogons = 1024
	logonKept = time.Hour
	// maxLogonName and maxLogonPassword are Windows's own bounds, with room.
	maxLogonName     = 512
	maxLogonPassword = 1024
)

// passwords signs callers on with the Windows user name and password that each sends (as: caller-password). Nothing of them
// is written anywhere; in memory is what signs on the next call of the same caller without asking the domain again.
type passwords struct {
	config  *Config
	windows *Windows
	guard   *lockout.Guard
	make    func(*Config, *Windows, func() (string, error)) (winauth.Credential, error)

	mu   sync.Mutex // guards kept
	kept map[string]*keptLogon
}

// A keptLogon is the credential of one account and password.
type keptLogon struct {
	credential winauth.Credential
	made       time.Time
}

// signOn is upstream.Auth.Windows.
func (p *passwords) signOn(r *http.Request) (upstream.SignOn, error) {
	name, password, err := logonOf(r)
	if err != nil {
		return upstream.SignOn{}, &upstream.Error{Kind: upstream.LogonMissing, NotRun: true, Here: true, Err: err}
	}
	try, err := p.guard.Enter(r.Context(), name, password)
	if err != nil {
		return upstream.SignOn{}, resting(err)
	}
	proof := p.guard.Proof(name, password)
	cred, err := p.credential(proof, name, password)
	if err != nil {
		try.End(lockout.Untold)
		return upstream.SignOn{}, &upstream.Error{Kind: upstream.LogonMissing, NotRun: true, Here: true, Err: err}
	}
	return upstream.SignOn{Credential: cred, Mode: p.windows.As, Proof: proof, Done: func(o upstream.Outcome) {
		switch o {
		case upstream.Accepted:
			try.End(lockout.Right)
		case upstream.Refused:
			p.forget(proof)
			try.End(lockout.Wrong)
		case upstream.Untold:
			try.End(lockout.Untold)
		}
	}}, nil
}

// resting is a refusal of the guard as the caller gets it.
func resting(err error) error {
	refused, ok := errors.AsType[*lockout.Refused](err)
	switch {
	case !ok:
		return &upstream.Error{Kind: upstream.CallerGone, NotRun: true, Err: err}
	case refused.Known:
		return &upstream.Error{Kind: upstream.LogonRefused, NotRun: true, Here: true, Err: err}
	}
	return &upstream.Error{Kind: upstream.LogonResting, NotRun: true, Here: true, RetryAfter: refused.Wait, Err: err}
}

// logonOf reads Basic credentials (RFC 7617) that name a Windows account with its domain. Its errors quote nothing.
func logonOf(r *http.Request) (name, password string, err error) {
	if len(r.Header["Authorization"]) != 1 {
		return "", "", errors.New("the request has no Authorization field, or more than one")
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		return "", "", errors.New("the field Authorization does not hold Basic credentials")
	}
	control := func(s string) bool { return !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) }
	domain, user, down := strings.Cut(name, `\`)
	if !down {
		if i := strings.LastIndexByte(name, '@'); i >= 0 {
			user, domain = name[:i], name[i+1:]
		}
	}
	switch {
	case control(name) || control(password):
		return "", "", errors.New("user name or password is not UTF-8, or has a control character")
	case strings.Trim(domain, ". ") == "" || lockout.Account(name) == "" || user == "" || strings.Contains(user, `\`):
		return "", "", errors.New(`the user name is neither DOMAIN\user nor user@domain`)
	case password == "":
		return "", "", errors.New("the password is empty")
	case len(name) > maxLogonName || len(password) > maxLogonPassword:
		return "", "", errors.New("user name or password is longer than Windows takes")
	}
	return name, password, nil
}

// credential gives the credential of an account and password, the one in memory if there is one.
func (p *passwords) credential(proof, name, password string) (winauth.Credential, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if k := p.kept[proof]; k != nil && now.Sub(k.made) < logonKept {
		return k.credential, nil
	}
	p.room(now)
	w := *p.windows
	w.As, w.Account = "account", name
	cred, err := p.make(p.config, &w, func() (string, error) { return password, nil })
	if err != nil {
		return nil, err
	}
	p.kept[proof] = &keptLogon{cred, now}
	return cred, nil
}

// room drops what is old, and anything where all is new.
func (p *passwords) room(now time.Time) {
	for proof, k := range p.kept {
		if now.Sub(k.made) >= logonKept {
			delete(p.kept, proof)
		}
	}
	for proof := range p.kept {
		if len(p.kept) < maxLogons {
			return
		}
		delete(p.kept, proof)
	}
}

func (p *passwords) forget(proof string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.kept, proof)
}
