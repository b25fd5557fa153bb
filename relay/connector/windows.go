package connector

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// checkWindows refuses what AuthWindows cannot be published with.
func (c *Connector) checkWindows(bad *Invalid) {
	if !c.Takes(AuthWindows) {
		if c.PasswordAlone {
			bad.add("auth: password-alone makes sense with windows only")
		}
		return
	}
	for _, way := range c.Auth {
		if !slices.Contains(strings.Split(way, "+"), AuthWindows) {
			bad.add("auth: %s beside windows admits nobody: the API inside demands the Windows logon of every caller; use key+windows alone, or two connectors", way)
		}
	}
	switch alone := slices.Contains(c.Auth, AuthWindows); {
	case alone && !c.PasswordAlone && len(c.From) == 0:
		bad.add("auth: with windows alone, anybody who knows the URL can try passwords of the company's accounts; " +
			"demand a key as well (key+windows), bind the callers to addresses (--from), or say --password-alone")
	case alone && c.PasswordAlone && len(c.From) > 0:
		bad.add("auth: password-alone is not needed where from binds callers to addresses: leave it out")
	case !alone && c.PasswordAlone:
		bad.add("auth: password-alone contradicts key+windows: leave it out")
	}
	// The relay does not know who calls, so what it keeps of one caller's call could be given to another.
	if c.Async.After > 0 || c.Async.Limit > 0 || c.Dedupe.By != "" || len(c.Webhooks) > 0 {
		bad.add("auth: windows cannot be used with async-after, dedupe or webhooks: the relay does not know who calls, and could not keep the kept answers of callers apart")
	}
	c.Async.Off = true // not even for callers that prefer it, for the same reason
}

// proveWindows takes Basic credentials to be passed on. Only their form and the account's name are looked at, the name to
// count failures under. Whether they are right is known inside.
func (c *call) proveWindows(pub *Published, authorization []string) proof {
	if len(authorization) == 0 {
		return proof{err: c.unauthorised(pub, "logon-required", "Send Windows user name and password as Basic credentials.")}
	}
	address := addressSource(c.from.remote)
	name, ok := "", false
	if len(authorization) == 1 {
		name, _, ok = basicCredentials(authorization[0])
	}
	if !ok {
		return proof{err: c.refuse(pub, "logon-refused", "Authorization does not hold Basic credentials, once.", address)}
	}
	c.guesses = []source{address, accountSource(pub, name)}
	if wait := c.p.guard.wait(time.Now(), c.guesses...); wait > 0 {
		return proof{err: c.slowed(pub, wait)}
	}
	return proof{token: authorization}
}

// accountSource counts an account under a digest of its name, which is not for the relay's log.
func accountSource(pub *Published, name string) source {
	sum := sha256.Sum256([]byte(strings.ToLower(name)))
	return nameSource(pub.path(), "account", hex.EncodeToString(sum[:8]))
}

// checkPassed refuses a call whose only proof would be judged by nobody: the API inside does not take callers' passwords.
func (c *call) checkPassed(wanted bool) error {
	if c.guesses != nil && !wanted {
		return NewProblem("logon-unjudged", "The connector takes Windows logons, but the API inside does not sign on with them. The request was not run.")
	}
	return nil
}

// countRefusal counts the agent's refusal of a Windows logon.
func (c *call) countRefusal(p *Problem) {
	if c.guesses != nil && p.Status == http.StatusUnauthorized {
		if wait := c.p.guard.fail(time.Now(), c.place.Published.path(), c.guesses...); wait > 0 {
			p.after(wait)
		}
	}
}
