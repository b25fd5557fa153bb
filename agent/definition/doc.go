// Package definition reads an API's description (OpenAPI 2.0, 3.0, 3.1 or a Postman collection, in JSON or YAML), and makes
// of it what may leave the machine: the operations that the allow-list admits and what they need, with no word about where
// the API is. It also drafts a description from the allow-list, and the allow-list from a description.
//
// It does not convert: what came in as OpenAPI 3.1 leaves as OpenAPI 3.1, in JSON, with its members in their order. It
// decides nothing about what may be called; Options.Allowed does, which is agent/policy's matcher. It is the agent's own
// small reader: it knows where operations, names and addresses stand, and takes everything else as it is.
//
//	out, err := definition.Cut("orders.yaml", data, definition.Options{URL: api.Address(), Allowed: allowed})
//	out.Body    // JSON, for the relay
//	out.Report  // what was cut and stripped, for people
//
// The order of reading: tree.go (a document), json.go and yaml.go (how it is read), openapi.go and postman.go (what is
// kept), base.go (whose path is whose), unused.go and strip.go (what else goes), draft.go and skeleton.go (the other way).
package definition

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
)

const (
	// MaxSize bounds a definition, in bytes, before and after.
	MaxSize = 32 << 20
	// maxDepth bounds how deep a document may nest, maxNodes how many values it may hold, aliases and references that were
	// written out included: the memory is by the value.
	maxDepth = 200
	maxNodes = 6 << 20
)

// Options say what may leave.
type Options struct {
	// URL is the API's address and base path. Paths of the result follow it.
	URL *url.URL
	// Hosts are further hosts that must not be named.
	Hosts []string
	// Allowed says whether the allow-list admits an operation: a method, and a path template that follows URL.
	Allowed func(method, path string) bool
}

// A Result is what leaves the machine.
type Result struct {
	// Digest is "sha256:" and the hex digits of Body's SHA-256.
	Digest string
	// Body is JSON.
	Body   []byte
	Report Report
}

// Report is what became of a document.
type Report struct {
	// Form is what came: "OpenAPI 3.0.1", "Postman collection v2.1", "allow-list".
	Form string `json:"form"`
	// Operations is how many leave.
	Operations int `json:"operations"`
	// Cut are the operations that do not.
	Cut []CutOperation `json:"cut"`
	// Stripped is what else was left out, or replaced by "(removed)". It has at most maxStripped entries; More counts the
	// others.
	Stripped []Stripped `json:"stripped"`
	More     int        `json:"more,omitempty"`
	// Warnings are what a person should look at.
	Warnings []string `json:"warnings"`
}

// A CutOperation is one that does not leave.
type CutOperation struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Why    string `json:"why"`
}

// Stripped is something that does not leave.
type Stripped struct {
	// Where is the JSON pointer of the place (RFC 6901), in the document as it came or as it leaves.
	Where string `json:"where"`
	Why   string `json:"why"`
}

// maxStripped bounds what a report lists: a large document with an address in each example has tens of thousands.
const maxStripped = 1000

func (r *Report) strip(where, why string) {
	if len(r.Stripped) < maxStripped {
		r.Stripped = append(r.Stripped, Stripped{where, why})
		return
	}
	r.More++
}

func (r *Report) warnf(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// Why an operation does not leave.
const (
	whyNotAllowed = "the allow-list does not admit it"
	whyElsewhere  = "it is not below the API's url"
	whyOtherHost  = "it is on another host"
)

// An Error is a document that cannot be used.
type Error struct {
	File string
	Line int    // from 1; 0: not known
	At   string // JSON pointer; may be empty
	What string // what is wrong, and what helps
}

func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s += fmt.Sprintf(":%d", e.Line)
	}
	if e.At != "" {
		s += ": at " + e.At
	}
	return s + ": " + e.What
}

// Cut reads a document and makes what may leave of it. name is what errors call it.
func Cut(name string, data []byte, o Options) (*Result, error) {
	d, err := read(name, data)
	if err != nil {
		return nil, err
	}
	r := &Result{Report: Report{Form: d.form(), Cut: []CutOperation{}, Stripped: []Stripped{}, Warnings: []string{}}}
	h := newHosts(o.URL, append(o.Hosts, d.hosts()...))
	var out *node
	switch d.kind {
	case postman, postman1:
		out, err = d.cutPostman(o, h, &r.Report)
	default:
		out, err = d.cutOpenAPI(o, h, &r.Report)
	}
	if err != nil {
		return nil, err
	}
	return r, r.finish(name, out, h)
}

// finish strips the addresses, writes the document, and looks at what was written once more.
func (r *Result) finish(name string, out *node, h *hosts) error {
	h.strip(out, &r.Report)
	r.Body = out.appendJSON(nil)
	if len(r.Body) > MaxSize {
		return &Error{File: name, What: fmt.Sprintf("what would leave has %d bytes (at most %d can)", len(r.Body), MaxSize)}
	}
	if left := h.leftIn(r.Body); left != "" {
		return &Error{File: name, What: "it names the internal host " + left + " in a place from which it cannot be removed; nothing of it leaves"}
	}
	sum := sha256.Sum256(r.Body)
	r.Digest = "sha256:" + hex.EncodeToString(sum[:])
	return nil
}

var errTooMany = errors.New("it holds more values than are taken, aliases and references written out")
