package support

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
)

// leastSecret is how long a secret must be to be searched for by value: shorter ones are parts of words.
const leastSecret = 4

const stars = "***"

// What looks like a secret whoever's it is. The first group stays.
var forms = []*regexp.Regexp{
	regexp.MustCompile(`(spjoin1\.)[A-Za-z0-9_\-]+`),
	regexp.MustCompile(`(\bsp_)[A-Za-z0-9_\-]{8,}`),
	// A user name and a password in a URL, to the last @: a password may have some too.
	regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.\-]*://)[^\s/"'<>]+@`),
	regexp.MustCompile(`(?i)(\b(?:Bearer|Basic|Negotiate|NTLM) +)[A-Za-z0-9+/_.~\-]{8,}=*`),
	regexp.MustCompile(`(\b)eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*`),
	// A setting whose name says that it is one. The configuration has none; somebody may have written one all the same.
	regexp.MustCompile(`(?im)(["']?\b[\w.\-]*(?:password|passwd|pwd|api[_\-]?key|client[_\-]?secret|authorization)["']?\s*[:=]\s*)[^\s,}\]][^\n,}\]]*`),
	regexp.MustCompile(`(-----BEGIN [A-Z ]*PRIVATE KEY-----)[^-]*`),
}

// A Mask takes secrets out of texts: those that it was given by value, in every spelling that they may have come in, and what
// looks like one.
type Mask struct{ values [][]byte }

// NewMask makes a mask that knows these secrets.
func NewMask(secrets ...string) *Mask {
	m := &Mask{}
	for _, s := range secrets {
		if len(s) < leastSecret {
			continue
		}
		quoted, err := json.Marshal(s)
		if err == nil {
			m.add(string(quoted[1 : len(quoted)-1]))
		}
		m.add(s)
		m.add(url.QueryEscape(s))
		m.add(url.PathEscape(s))
		m.add(base64.StdEncoding.EncodeToString([]byte(s)))
		m.add(base64.RawURLEncoding.EncodeToString([]byte(s)))
	}
	// The longest first: one secret may be the beginning of another.
	slices.SortFunc(m.values, func(a, b []byte) int { return len(b) - len(a) })
	return m
}

func (m *Mask) add(s string) {
	if v := []byte(s); !slices.ContainsFunc(m.values, func(o []byte) bool { return bytes.Equal(o, v) }) {
		m.values = append(m.values, v)
	}
}

// Bytes gives the text without secrets.
func (m *Mask) Bytes(text []byte) []byte {
	for _, v := range m.values {
		text = bytes.ReplaceAll(text, v, []byte(stars))
	}
	for _, f := range forms {
		text = f.ReplaceAll(text, []byte("${1}"+stars))
	}
	return text
}
