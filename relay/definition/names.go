package definition

import (
	"strconv"
	"strings"
	"unicode"
)

// words parts a name at case changes, digits stay with what is before them: "orderIDs_v2" is order, IDs, v2.
func words(s string) []string {
	var out []string
	var word []rune
	runes := []rune(s)
	end := func() {
		if len(word) > 0 {
			out = append(out, string(word))
			word = nil
		}
	}
	for i, r := range runes {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			end()
			continue
		}
		if i > 0 && unicode.IsUpper(r) {
			before := runes[i-1]
			after := i+1 < len(runes) && unicode.IsLower(runes[i+1]) && (i+2 >= len(runes) || runes[i+1] != 's' || unicode.IsLower(runes[i+2]))
			if unicode.IsLower(before) || unicode.IsDigit(before) || unicode.IsUpper(before) && after {
				end()
			}
		}
		word = append(word, r)
	}
	end()
	return out
}

// pascal joins words in PascalCase, of ASCII letters and digits alone.
func pascal(s string) string {
	var b strings.Builder
	for _, w := range words(s) {
		ascii := strings.Map(func(r rune) rune {
			if r > unicode.MaxASCII {
				return -1
			}
			return r
		}, w)
		if ascii != "" {
			b.WriteString(strings.ToUpper(ascii[:1]) + ascii[1:])
		}
	}
	return b.String()
}

// title makes a name for people: "order_id" is "Order ID".
func title(s string) string {
	list := words(strings.TrimPrefix(s, "$"))
	for i, w := range list {
		switch lower := strings.ToLower(w); lower {
		case "id", "url", "uri", "ip", "api", "html", "json", "xml", "csv", "pdf", "sku", "vat", "uuid", "guid", "utc", "erp", "http":
			list[i] = strings.ToUpper(w)
		case "ids", "urls", "uris":
			list[i] = strings.ToUpper(w[:len(w)-1]) + "s"
		default:
			r := []rune(w)
			r[0] = unicode.ToUpper(r[0])
			list[i] = string(r)
		}
	}
	if len(list) == 0 {
		return s
	}
	return strings.Join(list, " ")
}

// The longest texts that Power Platform's validator takes.
const (
	maxSummary     = 80 // of an operation; the validator's own limit is 120
	maxID          = 100
	maxDescription = 1000
)

// cleanID brings an operation's ID to letters and digits, in PascalCase.
func cleanID(id string) string {
	out := pascal(id)
	if out != "" && unicode.IsDigit(rune(out[0])) {
		out = "Op" + out
	}
	if len(out) > maxID {
		out = out[:maxID]
	}
	return out
}

// goodID reports whether Power Platform takes an ID as it is.
func goodID(id string) bool {
	return id != "" && len(id) <= maxID && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
}

// idFrom makes an ID of method and path: GET /orders/{id}/lines is GetOrdersByIdLines.
func idFrom(op *operation) string {
	verb := map[string]string{"get": "Get", "post": "Create", "put": "Replace", "patch": "Update", "delete": "Delete", "head": "Check", "options": "Options"}[op.method]
	var b strings.Builder
	b.WriteString(verb)
	for segment := range strings.SplitSeq(op.path, "/") {
		if m := variable.FindStringSubmatch(segment); m != nil && m[0] == segment {
			b.WriteString("By" + pascal(m[1]))
			continue
		}
		b.WriteString(pascal(segment))
	}
	if b.Len() == len(verb) {
		b.WriteString("Root")
	}
	return cleanID(b.String())
}

// summaryFrom makes a summary of an ID that an author wrote, or of method and path.
func summaryFrom(op *operation, id string) string {
	list := words(id)
	for i, w := range list {
		if lower := strings.ToLower(w); i > 0 && w != strings.ToUpper(w) || i > 0 && len(w) == 1 {
			list[i] = lower
		}
	}
	s := strings.Join(list, " ")
	if s == "" {
		s = strings.ToUpper(op.method) + " " + op.path
	}
	return fitSummary(strings.ToUpper(s[:1]) + s[1:])
}

// fitSummary keeps to the length, and ends with a letter or digit, or a bracket.
func fitSummary(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > maxSummary {
		s = string(runes[:maxSummary])
		if i := strings.LastIndexByte(s, ' '); i > maxSummary/2 {
			s = s[:i]
		}
	}
	return endAlphanumeric(s)
}

// endAlphanumeric cuts what stands after the last letter, digit or closing bracket.
func endAlphanumeric(s string) string {
	return strings.TrimRightFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != ')'
	})
}

// uniqueID appends a number to an ID that is taken; IDs are compared without case.
func uniqueID(id string, taken map[string]bool) string {
	name := id
	for n := 2; taken[strings.ToLower(name)]; n++ {
		suffix := strconv.Itoa(n)
		name = id[:min(len(id), maxID-len(suffix))] + suffix
	}
	taken[strings.ToLower(name)] = true
	return name
}
