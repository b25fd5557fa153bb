package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Kinds are what a term of "who" can begin with, and what a Principal is asked about.
const (
	Person = "person" // any person whom the issuer vouches for; it has no value
	UPN    = "upn"    // a person by user principal name
	Object = "oid"    // a person by object ID
	Group  = "group"  // a person in a group
	Role   = "role"   // a person or application with an app role
	App    = "app"    // an application by itself
)

// A term is one principal, or several who have something in common.
type term struct{ kind, value string }

// maxTerm bounds a term, in bytes.
const maxTerm = 256

func parseTerm(text string) (term, error) {
	kind, value, has := strings.Cut(text, "=")
	switch {
	case text == Person:
		return term{Person, ""}, nil
	case !has || value == "" || value != strings.TrimSpace(value) || len(text) > maxTerm ||
		!slices.Contains([]string{UPN, Object, Group, Role, App}, kind):
		return term{}, fmt.Errorf("%.80q is no principal (write person, upn=anna@corp.example, oid=GUID, group=GUID, role=NAME or app=GUID)", text)
	case strings.Contains(value, "*"):
		return term{}, fmt.Errorf("%.80q: there are no patterns of principals (name each, or a group or role)", text)
	}
	if kind == UPN || isGUID(value) {
		value = strings.ToLower(value) // as tokens have GUIDs; a UPN is the same in any case
	}
	return term{kind, value}, nil
}

func isGUID(s string) bool { return len(s) == 36 && isKey(s) }

// NeedsPrincipal reports whether a rule asks who calls.
func (p *Policy) NeedsPrincipal() bool {
	return p != nil && slices.ContainsFunc(p.rules, func(r *rule) bool { return r.when != nil && len(r.when.who) > 0 })
}
