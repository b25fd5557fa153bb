package connector

import (
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// checkOrigin answers preflights of connectors that have CORS, and notes the origin for the answer's fields. Without
// CORS a preflight is a request like any other, and the upstream's own CORS fields never leave (copyResponse).
func (c *call) checkOrigin(pub *Published) (answered bool, err error) {
	origin := single(c.r.Header["Origin"])
	if len(pub.CORSOrigins) == 0 || origin == "" {
		return false, nil
	}
	if slices.Contains(pub.CORSOrigins, origin) {
		c.cors = origin
	} else if slices.Contains(pub.CORSOrigins, "*") {
		c.cors = "*"
	}
	preflight := c.r.Method == http.MethodOptions && len(c.r.Header["Access-Control-Request-Method"]) > 0
	if !preflight {
		return false, nil // the browser keeps the answer from a page that is not admitted
	}
	if c.cors == "" {
		return false, NewProblem("cors-refused", "Pages of this origin are not in the connector's list.")
	}
	c.preflight()
	return true, nil
}

// preflight admits what is asked for: what may be called is decided by the key and by the agent's allow-list, not by
// the browser. Credentials that a browser sends by itself (cookies) are not admitted.
func (c *call) preflight() {
	h := c.w.Header()
	if method := single(c.r.Header["Access-Control-Request-Method"]); httpguts.ValidHeaderFieldName(method) {
		h.Set("Access-Control-Allow-Methods", method)
	}
	var names []string
	for _, line := range c.r.Header["Access-Control-Request-Headers"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); httpguts.ValidHeaderFieldName(name) {
				names = append(names, name)
			}
		}
	}
	if len(names) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(names, ", "))
	}
	h.Set("Access-Control-Max-Age", "600")
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	c.head(http.StatusNoContent)
}

// setCORS lets the page read the answer, errors too.
func (c *call) setCORS() {
	if c.place.Published == nil || len(c.place.Published.CORSOrigins) == 0 {
		return
	}
	h := c.w.Header()
	if c.cors != "*" {
		h.Add("Vary", "Origin")
	}
	if c.cors == "" {
		return
	}
	h.Set("Access-Control-Allow-Origin", c.cors)
	h.Set("Access-Control-Expose-Headers", "X-Request-Id, Location, ETag, Retry-After, Link")
}
