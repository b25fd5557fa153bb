package microsoft

import (
	"regexp"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A lookahead is ^PREFIX(?!NOT)REST, the form that Microsoft's schemas use and Go's engine lacks.
type lookahead struct {
	expr      string
	whole     *regexp.Regexp
	forbidden *regexp.Regexp
}

func newLookahead(expr string) (jsonschema.Regexp, error) {
	before, after, ok := strings.Cut(expr, "(?!")
	if !ok {
		if re, err := regexp.Compile(expr); err == nil {
			return re, nil
		}
		return regexp.MustCompile(""), nil // an author's own expression, of another dialect
	}
	not, rest, _ := strings.Cut(after, ")")
	whole, err := regexp.Compile(before + rest)
	if err != nil {
		return regexp.MustCompile(""), nil
	}
	forbidden, err := regexp.Compile(before + not)
	if err != nil {
		return regexp.MustCompile(""), nil
	}
	return lookahead{expr, whole, forbidden}, nil
}

func (l lookahead) MatchString(s string) bool {
	return l.whole.MatchString(s) && !l.forbidden.MatchString(s)
}
func (l lookahead) String() string { return l.expr }
