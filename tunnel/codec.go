package tunnel

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/textproto"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Heads are lists of fields, each a tag (u8), a length (uvarint) and so many bytes. Unknown tags are skipped, so that a
// newer peer can say more. Absent fields have their zero value.
const (
	// maxHead bounds one head in bytes, as encoded; maxFields bounds the number of its HTTP fields.
	maxHead   = 1<<20 + 64<<10
	maxFields = 4000
)

// Tags of a request head.
const (
	tagID byte = iota + 1
	tagAPI
	tagMethod
	tagTarget
	tagBase
	tagHeader // a field block
	tagLength // uvarint: content length + 1, 0 for unknown
	tagExpect // present: true
	tagUpgrade
	tagTimeout // uvarint: milliseconds
	tagCaller
)

// Tags of a response head. Header and length have the request's tags.
const (
	tagStatus  byte = iota + 32 // uvarint
	tagProblem                  // JSON
	tagTimes                    // three uvarints: microseconds of agent, auth, upstream
)

func appendString(b []byte, tag byte, s string) []byte {
	if s == "" {
		return b
	}
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendNumber(b []byte, tag byte, n uint64) []byte {
	var tmp [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(tmp[:], n)
	b = append(b, tag, byte(k))
	return append(b, tmp[:k]...)
}

// appendHeader adds a field block under tag: per field the name and the value, each with its length.
func appendHeader(b []byte, tag byte, h http.Header) []byte {
	size := fieldsSize(h)
	if size == 0 {
		return b
	}
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(size))
	return appendFields(b, h)
}

func appendFields(b []byte, h http.Header) []byte {
	for name, values := range h {
		for _, v := range values {
			b = binary.AppendUvarint(b, uint64(len(name)))
			b = append(b, name...)
			b = binary.AppendUvarint(b, uint64(len(v)))
			b = append(b, v...)
		}
	}
	return b
}

func fieldsSize(h http.Header) int {
	n := 0
	for name, values := range h {
		for _, v := range values {
			n += uvarintSize(len(name)) + len(name) + uvarintSize(len(v)) + len(v)
		}
	}
	return n
}

func uvarintSize(n int) int {
	k := 1
	for n >= 0x80 {
		n >>= 7
		k++
	}
	return k
}

func appendRequest(b []byte, r *Request) []byte {
	b = appendString(b, tagID, r.ID)
	b = appendString(b, tagAPI, r.API)
	b = appendString(b, tagMethod, r.Method)
	b = appendString(b, tagTarget, r.Target)
	b = appendString(b, tagBase, r.Base)
	b = appendHeader(b, tagHeader, r.Header)
	b = appendNumber(b, tagLength, uint64(r.ContentLength+1))
	if r.Expect {
		b = append(b, tagExpect, 0)
	}
	b = appendString(b, tagUpgrade, r.Upgrade)
	if r.Timeout > 0 {
		b = appendNumber(b, tagTimeout, uint64(r.Timeout.Milliseconds()))
	}
	return appendString(b, tagCaller, r.Caller)
}

func appendResponse(b []byte, r *Response) ([]byte, error) {
	b = appendNumber(b, tagStatus, uint64(r.Status))
	b = appendHeader(b, tagHeader, r.Header)
	b = appendNumber(b, tagLength, uint64(r.ContentLength+1))
	if r.Problem != nil {
		raw, err := json.Marshal(r.Problem)
		if err != nil {
			return nil, err
		}
		b = appendString(b, tagProblem, string(raw))
	}
	if r.Times != (Times{}) {
		var t [3 * binary.MaxVarintLen64]byte
		k := t[:0]
		for _, d := range []time.Duration{r.Times.Agent, r.Times.Auth, r.Times.Upstream} {
			k = binary.AppendUvarint(k, uint64(max(d, 0).Microseconds()))
		}
		b = append(b, tagTimes, byte(len(k)))
		b = append(b, k...)
	}
	return b, nil
}

// fields walks the tagged fields of a head. s is the whole head as one string, so that all strings share one piece of
// memory.
func eachField(s string, f func(tag byte, value string) error) error {
	for s != "" {
		tag := s[0]
		value, rest, err := cutString(s[1:])
		if err != nil {
			return err
		}
		if err := f(tag, value); err != nil {
			return err
		}
		s = rest
	}
	return nil
}

// cutString takes a length and so many bytes off s.
func cutString(s string) (value, rest string, err error) {
	n, s, err := cutNumber(s)
	if err != nil || n > uint64(len(s)) {
		return "", "", errShort
	}
	return s[:n], s[n:], nil
}

// cutNumber takes a uvarint off s.
func cutNumber(s string) (n uint64, rest string, err error) {
	for i := 0; i < len(s) && i < binary.MaxVarintLen64; i++ {
		c := s[i]
		if c < 0x80 {
			if i == binary.MaxVarintLen64-1 && c > 1 {
				return 0, "", errShort
			}
			return n | uint64(c)<<(7*i), s[i+1:], nil
		}
		n |= uint64(c&0x7f) << (7 * i)
	}
	return 0, "", errShort
}

func parseNumber(s string) (uint64, error) {
	n, rest, err := cutNumber(s)
	if err == nil && rest != "" {
		err = errShort
	}
	return n, err
}

// parseFields reads a field block. Names and values that HTTP does not allow are refused here, so that nothing behind
// this point can be made to split a message (RFC 9110 section 5.5).
func parseFields(s string) (http.Header, error) {
	n := 0
	for rest := s; rest != ""; n++ {
		var err error
		if _, rest, err = cutString(rest); err != nil {
			return nil, err
		}
		if _, rest, err = cutString(rest); err != nil {
			return nil, err
		}
		if n >= maxFields {
			return nil, violation("more than %d header fields", maxFields)
		}
	}
	h, values := make(http.Header, n), make([]string, n)
	for i := range n {
		var name, value string
		name, s, _ = cutString(s)
		value, s, _ = cutString(s)
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, violation("a header field that HTTP does not allow: %.40q", name)
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if had := h[name]; had != nil {
			h[name] = append(had, value)
			continue
		}
		values[i] = value
		h[name] = values[i : i+1 : i+1]
	}
	return h, nil
}

func parseLength(s string) (int64, error) {
	n, err := parseNumber(s)
	if err == nil && n > 1<<62 {
		err = violation("a content length of %d", n)
	}
	return int64(n) - 1, err
}

// parseRequest reads a request head and refuses what could not have come from a proper relay.
func parseRequest(b []byte) (*Request, error) {
	r := &Request{ContentLength: -1}
	err := eachField(string(b), func(tag byte, v string) (err error) {
		switch tag {
		case tagID:
			r.ID = v
		case tagAPI:
			r.API = v
		case tagMethod:
			r.Method = v
		case tagTarget:
			r.Target = v
		case tagBase:
			r.Base = v
		case tagHeader:
			r.Header, err = parseFields(v)
		case tagLength:
			r.ContentLength, err = parseLength(v)
		case tagExpect:
			r.Expect = true
		case tagUpgrade:
			r.Upgrade = v
		case tagTimeout:
			var ms uint64
			ms, err = parseNumber(v)
			r.Timeout = time.Duration(min(ms, uint64(24*time.Hour/time.Millisecond))) * time.Millisecond
		case tagCaller:
			r.Caller = v
		}
		return err
	})
	if err == nil {
		err = checkRequest(r)
	}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	return r, err
}

func checkRequest(r *Request) error {
	switch {
	case !validID(r.ID):
		return violation("a request without a proper ID")
	case !httpguts.ValidHeaderFieldName(r.Method): // a method is a token, as a field name is
		return violation("method %.20q", r.Method)
	case r.Target == "" || r.Target[0] != '/':
		return violation("a target that does not begin with /")
	case r.Upgrade != "" && !httpguts.ValidHeaderFieldName(r.Upgrade):
		return violation("upgrade to %.20q", r.Upgrade)
	}
	for i := range len(r.Target) {
		if c := r.Target[i]; c <= ' ' || c == 0x7f {
			return violation("a control byte in the target")
		}
	}
	return nil
}

func validID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func parseResponse(b []byte) (*Response, error) {
	r := &Response{ContentLength: -1}
	err := eachField(string(b), func(tag byte, v string) (err error) {
		switch tag {
		case tagStatus:
			var n uint64
			n, err = parseNumber(v)
			r.Status = int(min(n, 1000))
		case tagHeader:
			r.Header, err = parseFields(v)
		case tagLength:
			r.ContentLength, err = parseLength(v)
		case tagProblem:
			r.Problem = &Problem{}
			err = json.Unmarshal([]byte(v), r.Problem)
		case tagTimes:
			r.Times, err = parseTimes(v)
		}
		return err
	})
	if err == nil && (r.Status < 100 || r.Status > 599) {
		err = violation("status %d", r.Status)
	}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	return r, err
}

func parseTimes(s string) (t Times, err error) {
	for _, d := range []*time.Duration{&t.Agent, &t.Auth, &t.Upstream} {
		var us uint64
		if us, s, err = cutNumber(s); err != nil {
			return t, err
		}
		*d = time.Duration(min(us, uint64(24*time.Hour/time.Microsecond))) * time.Microsecond
	}
	return t, nil
}
