// Package policy is the allow-list of one API: which requests of the cloud may reach it. The rules come from the agent's
// own file; nothing that travels can widen them.
//
// It decides; it does not read files, does not send, and changes nothing. A request target that is allowed is to be
// forwarded byte for byte: matching is done on a canonical reading of it, and a target that two programs could read
// differently is refused rather than rewritten (a proxy that rewrites has two chances to be wrong).
//
//	p, err := policy.Compile([]string{"GET /orders/**", "GET,PATCH /orders/{id}", "POST /files/{path:encoded}"})
//	v := p.Decide("GET", "/orders/4711?expand=lines")
//	if !v.Allowed { ... 400 if v.Ambiguous, else 403, with v.Reason }
//
// A rule is "METHODS PATH". docs/policy.md is its manual, for admins and reviewers; the tests of this package run what
// stands there. In short:
//
//   - METHODS is one method, several with commas between, or * for any. Nothing is implied: GET does not admit HEAD.
//   - Matching is case-sensitive, by whole segments, and a final "/" counts: /orders is not /orders/.
//   - /x/** is /x and all that is below it. /a/{id} is any one segment. Text may stand around a placeholder and several
//     may stand in a segment: /Customers({id}), /jobs/{id}:cancel, /Items(A='{a}',B='{b}').
//   - Percent-encoding is undone before text is compared: /orders admits /%6frders, which every program reads the same.
//   - What could change the structure of the path when a program decodes it (once or twice) is refused, unless the rule
//     asks for it: {path:encoded} admits %2F, %5C, %3B, %3F, %23 and double encoding in its segment, but never a dot
//     segment; a ";" stands in the rule itself where a path has one.
//   - The query is not matched. It is refused only for control bytes, spaces, "#", a bad "%" and %00.
//
// A rule can have conditions: CompileEntries takes them, and Judge decides about a whole request. Where a condition could be
// read in two ways (a parameter that is there twice, or spelled otherwise) it does not hold.
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Bounds of a target. HTTP servers take 8 to 16 kB by default; OData and SAP are the ones that are set higher.
const (
	MaxTarget   = 32 << 10 // bytes
	MaxSegments = 256
)

// A Policy is a compiled allow-list. It never changes and may be used by several goroutines. The zero value and nil
// allow nothing.
type Policy struct {
	rules []*rule
	root  node
}

// A Verdict is the answer to one request.
type Verdict struct {
	// Allowed says that the request may go to the API, with its target unchanged.
	Allowed bool
	// Rule is the rule that allowed it, as the file has it; the most literal one if there are several.
	Rule string
	// Ambiguous says that the request was refused for its form, whatever the rules are. Otherwise no rule admits it.
	Ambiguous bool
	// Fault is what about its form, as callers are told: FaultTooLong, FaultMethod, or "" for a target that could be read in
	// more than one way.
	Fault string
	// Reason says why a request was refused. It is meant for the caller: nothing in it comes from the rules.
	Reason string
	// Body bounds the body of an allowed request in bytes; NoBound: the rule sets none.
	Body int64
	// Identity is why nobody is proved to call, if that is what was missing.
	Identity error
	// Admit is a rule that would admit the request, "" if none would or if it would be too long to read.
	Admit string
}

// Faults of a request's form beside an ambiguous target.
const (
	FaultTooLong = "target-too-long"
	FaultMethod  = "bad-request"
	FaultBody    = "body-too-large" // larger than a condition admits; not Ambiguous
)

// Compile makes a policy of rules. The error is an Errors with everything that is wrong with any of them.
func Compile(rules []string) (*Policy, error) {
	p := &Policy{}
	var errs Errors
	for i, text := range rules {
		r, err := parseRule(text)
		if err != nil {
			err.Index = i
			errs = append(errs, err)
			continue
		}
		p.rules = append(p.rules, r)
		p.root.add(r)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return p, nil
}

// Decide says whether a rule admits requests with this method and request target (origin-form: a path, then perhaps "?" and a
// query), whatever the rule's conditions are. What decides about a call is Judge.
func (p *Policy) Decide(method, target string) Verdict {
	return p.decide(method, target, nil)
}

// Judge says whether a request may go to the API: whether a rule admits its method and target and all conditions of that
// rule hold.
func (p *Policy) Judge(r *Request) Verdict {
	j := &judgement{req: r}
	_, j.query, _ = strings.Cut(r.Target, "?")
	v := p.decide(r.Method, r.Target, j)
	if !v.Allowed && !v.Ambiguous && j.reason != "" {
		v.Reason, v.Admit, v.Identity = j.reason, "", j.identity
		if j.tooLarge && j.identity == nil {
			v.Fault = FaultBody
		}
	}
	return v
}

func (p *Policy) decide(method, target string, j *judgement) Verdict {
	if !isToken(method) {
		return Verdict{Ambiguous: true, Fault: FaultMethod, Reason: "the request method is not a token of letters and digits, or is too long"}
	}
	if len(target) > MaxTarget {
		return Verdict{Ambiguous: true, Fault: FaultTooLong, Reason: "the request target is longer than 32 kB"}
	}
	var room [32]segment // most paths fit, and then the slice stays on the stack
	t, fault := readTarget(target, room[:0])
	if fault != "" {
		return Verdict{Ambiguous: true, Reason: fault}
	}
	if p != nil {
		if r := p.root.match(method, &t, 0, j); r != nil {
			v := Verdict{Allowed: true, Rule: r.text, Body: NoBound}
			if r.when != nil {
				v.Body = r.when.body
			}
			return v
		}
	}
	v := Verdict{Reason: "no rule of the agent's allow-list admits this method and path", Admit: admit(method, &t)}
	if t.lastRisk >= 0 && (j == nil || j.reason == "") {
		v.Ambiguous, v.Reason = true, t.segments[t.lastRisk].risk.reason()
	}
	return v
}

// An Explained is what one rule says about a request.
type Explained struct {
	Rule string
	// Path says that the rule admits method and path, Holds that its conditions hold too. Fails is the first that does not.
	Path, Holds bool
	Fails       string
}

// Explain says of each rule what it makes of a request, in the order of the file.
func (p *Policy) Explain(r *Request) (list []Explained) {
	for _, one := range p.rules {
		alone := &Policy{rules: []*rule{one}}
		alone.root.add(one)
		e := Explained{Rule: one.text, Path: alone.Decide(r.Method, r.Target).Allowed}
		if e.Path {
			v := alone.Judge(r)
			e.Holds, e.Fails = v.Allowed, v.Reason
		}
		list = append(list, e)
	}
	return list
}

// Hash names the decisions of the policy: "sha256:" and hex digits. The order of rules, repeated ones and the spelling
// of methods and placeholders do not change it.
func (p *Policy) Hash() string {
	var list []string
	if p != nil {
		for _, r := range p.rules {
			list = append(list, r.canonical())
		}
	}
	slices.Sort(list)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(list), "\n")))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Rules gives the rules as the file has them.
func (p *Policy) Rules() []string {
	if p == nil {
		return nil
	}
	list := make([]string, len(p.rules))
	for i, r := range p.rules {
		list[i] = r.text
	}
	return list
}

// Writes reports whether a rule admits a method other than GET, HEAD and OPTIONS.
func (p *Policy) Writes() bool {
	return p != nil && slices.ContainsFunc(p.rules, func(r *rule) bool {
		return r.methods == nil || slices.ContainsFunc(r.methods, func(m string) bool {
			return m != "GET" && m != "HEAD" && m != "OPTIONS"
		})
	})
}

// Batches gives the rules that also admit OData's POST .../$batch: its body may hold calls of any operation, of which
// the policy sees nothing. A placeholder counts where it stands at the root, which is where a service has its $batch.
func (p *Policy) Batches() []string {
	var list []string
	if p == nil {
		return nil
	}
	for _, r := range p.rules {
		if !r.admitsMethod("POST") {
			continue
		}
		last := len(r.segments) - 1
		if r.rest || r.segments[last].literal == "$batch" || last == 0 && r.segments[last].matches(segment{text: "$batch"}) {
			list = append(list, r.text)
		}
	}
	return list
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2) of a length that methods have.
func isToken(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return true
}
