package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Conditions are what the rule demands beside method and path, one line each, for people.
func (r *Rule) Conditions() (list []string) {
	add := func(name string, texts Texts) {
		if len(texts) > 0 {
			list = append(list, name+" "+strings.Join(texts, ", "))
		}
	}
	add("who", r.Who)
	if q := r.Query; q != nil {
		list = append(list, valuesText("query", q.Required, q.Allowed)...)
		if q.Others == "allow" {
			list = append(list, "query other parameters with any value")
		} else {
			list = append(list, "query no other parameters")
		}
	}
	if h := r.Headers; h != nil {
		list = append(list, valuesText("headers", h.Required, h.Allowed)...)
	}
	if r.Body != nil {
		list = append(list, "body at most "+r.Body.String())
	}
	add("content_type", r.ContentType)
	add("between", r.Between)
	return list
}

func valuesText(what string, required, allowed map[string]Texts) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(required)) {
		list = append(list, fmt.Sprintf("%s must have %s: %s", what, name, strings.Join(required[name], ", ")))
	}
	for _, name := range slices.Sorted(maps.Keys(allowed)) {
		list = append(list, fmt.Sprintf("%s may have %s: %s", what, name, strings.Join(allowed[name], ", ")))
	}
	return list
}
