package policy_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport/agent/policy"
)

func TestStripOverrides(t *testing.T) {
	t.Parallel()
	h := http.Header{ // as they come, not canonical
		"X-Http-Method-Override": {"DELETE"}, "X-HTTP-METHOD-OVERRIDE": {"DELETE"}, "x_http_method_override": {"DELETE"}, "X_Http-Method": {"PUT"},
		"X-Http-Method": {"PUT"}, "X-Method-Override": {"PUT"}, "X.Method.Override": {"PUT"}, "X-Original-Url": {"/admin"}, "X_ORIGINAL_URL": {"/admin"},
		"X-Rewrite-Url": {"/admin"}, "X-Original-Uri": {"/admin"},
		"X-Request-Id": {"1"}, "Accept": {"*/*"}, "X-Methodical": {"yes"}, "Xx-Http-Method": {"PUT"}, "If-Match": {"*"},
	}
	kept := http.Header{"X-Request-Id": {"1"}, "Accept": {"*/*"}, "X-Methodical": {"yes"}, "Xx-Http-Method": {"PUT"}, "If-Match": {"*"}}

	allowed := h.Clone()
	policy.StripOverrides(allowed, []string{"x-http-method"})
	want := kept.Clone()
	want["X-Http-Method"] = []string{"PUT"}
	if diff := cmp.Diff(want, allowed); diff != "" {
		t.Errorf("with X-HTTP-Method allowed, in one spelling: %s", diff)
	}
	policy.StripOverrides(h, nil)
	if diff := cmp.Diff(kept, h); diff != "" {
		t.Error(diff)
	}
	policy.StripOverrides(nil, nil)
}

func TestIsOverride(t *testing.T) {
	t.Parallel()
	for _, name := range policy.Overrides() {
		if !policy.IsOverride(name) {
			t.Errorf("%s is not known", name)
		}
	}
	if policy.IsOverride("X-Request-Id") || policy.IsOverride("") {
		t.Error("another field is taken for an override")
	}
}
