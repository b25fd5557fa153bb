package connector

import (
	"net/http"
	"strings"
)

const (
	// hooksPath is where webhook subscriptions are ended, below a connector's base path; the token follows.
	hooksPath = "/_/hooks/"
	// maxHookTarget bounds the target in a token, so that the address stays one that platforms keep.
	maxHookTarget = 1024
)

// unhook lets a DELETE pass whose path was signed when the subscription was made: Power Platform sends no credential
// with it in some cases, and nobody can work the path out. It says whether the call is one. The credential, if there is
// one, is taken out of the request all the same.
func (c *call) unhook(pub *Published) (ok bool, err error) {
	path, _, _ := strings.Cut(c.place.Target, "?")
	token, found := strings.CutPrefix(path, hooksPath)
	if !found || c.p.o.Operations == nil {
		return false, nil
	}
	target, signed := c.p.o.Operations.CheckHook(pub.ID, token)
	if !signed {
		return false, nil // judged like any other call, so that a guess needs a credential too
	}
	if c.r.Method != http.MethodDelete {
		return false, NewProblem("method-refused", "A subscription is ended with DELETE; nothing else is served here.")
	}
	if c.authenticate(pub) != nil {
		delete(c.r.Header, "Authorization")
	}
	c.place.Target, c.hooked = target, true
	return true, nil
}

// signHook makes the Location of a new subscription one at which it can be ended without a credential.
func (c *call) signHook(h http.Header, status int) {
	pub := c.place.Published
	if len(pub.hooks) == 0 || c.p.o.Operations == nil || status < 200 || status > 299 || len(h["Location"]) != 1 {
		return
	}
	wanted := false
	for _, p := range pub.hooks {
		wanted = wanted || p.matches(c.r.Method, c.place.Target)
	}
	if !wanted {
		return
	}
	base := c.publicBase(pub)
	if target, ok := hookTarget(h["Location"][0], base, c.place.Target); ok {
		h["Location"] = []string{base + hooksPath + c.p.o.Operations.Hook(pub.ID, target)}
	}
}

// hookTarget is the request target of a subscription from its Location, which the agent has made public: absolute, or
// relative to the request's own target.
func hookTarget(location, base, request string) (string, bool) {
	location, _, _ = strings.Cut(location, "#")
	target, absolute := strings.CutPrefix(location, base)
	if !absolute {
		if location == "" || strings.ContainsAny(location[:1], "/?.") || strings.Contains(location, ":") {
			return "", false
		}
		path, _, _ := strings.Cut(request, "?")
		target = path[:strings.LastIndexByte(path, '/')+1] + location
	}
	if !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "/_/") || len(target) > maxHookTarget {
		return "", false
	}
	for i := range len(target) {
		if target[i] <= ' ' || target[i] > '~' || target[i] == '#' {
			return "", false
		}
	}
	return target, true
}
