package main

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"sallyport/relay"
)

// TestExampleHasEverySetting loads the example as it is, and again with every default uncommented.
func TestExampleHasEverySetting(t *testing.T) {
	t.Parallel()
	if _, err := relay.Load("relay.example.yaml", []byte(example)); err != nil {
		t.Errorf("the example does not load: %v", err)
	}
	setting := regexp.MustCompile(`(?m)^# ( *[a-z_]+:( .*)?)$`)
	full := setting.ReplaceAllString(example, "$1")
	c, err := relay.Load("relay.example.yaml", []byte(full))
	if err != nil {
		t.Fatalf("the example with its defaults does not load: %v\n%s", err, full)
	}
	wantSet(t, "", reflect.ValueOf(c))
}

// wantSet demands that no field is at its zero value.
func wantSet(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			wantSet(t, strings.TrimPrefix(path+"."+name, "."), v.Field(i))
		}
		return
	}
	if v.IsZero() {
		t.Errorf("the example does not show %s", path)
	}
}
