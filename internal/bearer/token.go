package bearer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

const (
	// MaxToken bounds a token, in bytes. Entra's with many groups come near to half of it.
	MaxToken = 16 << 10
	// maxDepth bounds how deep a token's JSON may nest.
	maxDepth = 16
)

// A token is what a caller has shown, taken apart. Nothing of it is proved yet.
type token struct {
	raw    string
	header map[string]any
	claims map[string]any
}

// parse takes a signed token apart (RFC 7515 section 3.1): three parts of base64url, no JSON form, nothing around it.
func parse(raw string) (*token, error) {
	if len(raw) > MaxToken {
		return nil, fmt.Errorf("it has %d bytes; at most %d are read", len(raw), MaxToken)
	}
	parts := strings.Split(raw, ".")
	switch {
	case strings.ContainsAny(raw, "\r\n"): // which the decoder of base64 would skip
		return nil, errors.New("it is no signed token (JWT)")
	case len(parts) == 5:
		return nil, errors.New("it is encrypted; signed tokens alone can be verified")
	case len(parts) != 3 || parts[0] == "" || parts[1] == "":
		return nil, errors.New("it is no signed token (JWT): an issuer that gives out opaque tokens has to give JWTs for this API")
	case parts[2] == "":
		return nil, errors.New("it is not signed")
	}
	t := &token{raw: raw}
	for i, into := range []*map[string]any{&t.header, &t.claims} {
		text, err := base64.RawURLEncoding.Strict().DecodeString(parts[i])
		if err != nil {
			return nil, errors.New("it is no signed token (JWT)")
		}
		if *into, err = object(text); err != nil {
			return nil, fmt.Errorf("its %s %w", []string{"header", "payload"}[i], err)
		}
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(parts[2]); err != nil {
		return nil, errors.New("it is no signed token (JWT)")
	}
	return t, nil
}

// object reads JSON in which each name stands once: of two, other programs might take the other (RFC 7519 section 4).
func object(text []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := value(d, 0)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			if m, ok := v.(map[string]any); ok {
				return m, nil
			}
			err = errors.New("is no JSON object")
		} else {
			err = errors.New("is no single JSON object")
		}
	}
	return nil, err
}

func value(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("is nested too deep")
	}
	t, err := d.Token()
	if err != nil {
		return nil, errors.New("is no JSON")
	}
	switch t {
	case json.Delim('{'):
		m := map[string]any{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, errors.New("is no JSON")
			}
			key := name.(string) // the decoder takes no other
			if _, twice := m[key]; twice {
				return nil, fmt.Errorf("has %.40q twice", key)
			}
			if m[key], err = value(d, depth+1); err != nil {
				return nil, err
			}
		}
		return m, end(d)
	case json.Delim('['):
		l := []any{}
		for d.More() {
			v, err := value(d, depth+1)
			if err != nil {
				return nil, err
			}
			l = append(l, v)
		}
		return l, end(d)
	}
	return t, nil
}

func end(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return errors.New("is no JSON")
	}
	return nil
}

// checkHeader refuses what the header must not say (RFC 8725). Keys that it carries or points to (jwk, jku, x5c, x5u) are
// never looked at.
func (t *token) checkHeader(algorithms []string) error {
	alg, _ := t.header["alg"].(string)
	if !slices.Contains(algorithms, alg) {
		return fmt.Errorf("it is signed by the algorithm %.20q, which does not count here", alg)
	}
	if _, there := t.header["crit"]; there {
		return errors.New("its header demands an extension (crit) that is not known here")
	}
	if _, there := t.header["b64"]; there {
		return errors.New("its header demands an extension (b64) that is not known here")
	}
	if typ, there := t.header["typ"]; there {
		name, _ := typ.(string)
		name = strings.TrimPrefix(strings.ToLower(name), "application/")
		if name != "jwt" && name != "at+jwt" {
			return fmt.Errorf("it is a token of another kind (typ %.40q)", name)
		}
	}
	if cty, there := t.header["cty"]; there {
		return fmt.Errorf("it holds another token (cty %.40q)", fmt.Sprint(cty))
	}
	return nil
}

// text is a claim that is a text; "" if it is none.
func (t *token) text(name string) string {
	s, _ := t.claims[name].(string)
	return s
}

// when is a claim that is a time (RFC 7519 section 2, NumericDate).
func (t *token) when(name string) (at time.Time, there bool, err error) {
	v, there := t.claims[name]
	if !there {
		return at, false, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return at, true, fmt.Errorf("its %s is no time", name)
	}
	f, err := n.Float64()
	if err != nil || math.IsNaN(f) || f < 0 || f > 253402300799 { // the year 9999
		return at, true, fmt.Errorf("its %s is no time", name)
	}
	whole, part := math.Modf(f)
	return time.Unix(int64(whole), int64(part*1e9)), true, nil
}

// audience is the claim aud: a text or a list of texts, and nothing else.
func (t *token) audience() ([]string, error) {
	switch v := t.claims["aud"].(type) {
	case string:
		return []string{v}, nil
	case []any:
		out := make([]string, 0, len(v))
		for _, one := range v {
			s, ok := one.(string)
			if !ok {
				return nil, errors.New("its audience (aud) is no text")
			}
			out = append(out, s)
		}
		return out, nil
	case nil:
		return nil, errors.New("it names no audience (aud)")
	}
	return nil, errors.New("its audience (aud) is no text")
}

// words are a claim that is a list of texts, or one text with spaces between.
func (t *token) words(name string) []string {
	switch v := t.claims[name].(type) {
	case string:
		return strings.Fields(v)
	case []any:
		var out []string
		for _, one := range v {
			if s, ok := one.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// list is a claim that is a list of texts; one text counts as a list of one.
func (t *token) list(name string) []string {
	if s := t.text(name); s != "" {
		return []string{s}
	}
	return t.words(name)
}

// has reports whether a claim is, or its list contains, the value.
func (t *token) has(name, value string) bool {
	v, there := t.find(name)
	if !there {
		return false
	}
	if list, ok := v.([]any); ok {
		return slices.ContainsFunc(list, func(one any) bool { return plain(one) == value && one != nil })
	}
	return v != nil && plain(v) == value
}

// find looks for the name itself, and then inside: "realm_access.roles".
func (t *token) find(name string) (any, bool) {
	if v, ok := t.claims[name]; ok {
		return v, true
	}
	at := t.claims
	for {
		first, rest, more := strings.Cut(name, ".")
		v, ok := at[first]
		if !ok || !more {
			return v, ok
		}
		if at, ok = v.(map[string]any); !ok {
			return nil, false
		}
		name = rest
	}
}

// plain is a single value as text; "" for what is none.
func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return fmt.Sprint(v)
	}
	return ""
}
