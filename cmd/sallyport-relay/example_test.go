package main

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"sallyport/relay"
)

// TestExampleHasEverySetting loads the example as it is, with every default uncommented, and with what it offers instead
// of something else ("##").
func TestExampleHasEverySetting(t *testing.T) {
	t.Parallel()
	if _, err := relay.Load("relay.example.yaml", []byte(example)); err != nil {
		t.Errorf("the example does not load: %v", err)
	}
	setting := regexp.MustCompile(`(?m)^# ( *[a-z_]+:( .*)?)$`)
	instead := regexp.MustCompile(`(?m)^## ( *[a-z_]+:( .*)?)$`)
	full := setting.ReplaceAllString(example, "$1")
	var all []reflect.Value
	for _, text := range []string{full, instead.ReplaceAllString(strings.Replace(full, tlsFiles, "", 1), "$1")} {
		c, err := relay.Load("relay.example.yaml", []byte(text))
		if err != nil {
			t.Fatalf("the example with its defaults does not load: %v\n%s", err, text)
		}
		all = append(all, reflect.ValueOf(c))
	}
	wantSet(t, "", all)
}

// tlsFiles is what the example has instead of tls.acme.
const tlsFiles = `tls:
  cert: /etc/sallyport/relay.crt
  key: /etc/sallyport/relay.key
`

// wantSet demands that no field is at its zero value in all of them.
func wantSet(t *testing.T, path string, all []reflect.Value) {
	t.Helper()
	var set []reflect.Value
	for _, v := range all {
		if v.Kind() == reflect.Pointer {
			v = v.Elem() // invalid if it is nil
		}
		if v.IsValid() && !v.IsZero() {
			set = append(set, v)
		}
	}
	if len(set) == 0 {
		t.Errorf("the example does not show %s", path)
		return
	}
	if set[0].Kind() != reflect.Struct {
		return
	}
	for i := range set[0].NumField() {
		name, _, _ := strings.Cut(set[0].Type().Field(i).Tag.Get("yaml"), ",")
		fields := make([]reflect.Value, len(set))
		for j, v := range set {
			fields[j] = v.Field(i)
		}
		wantSet(t, strings.TrimPrefix(path+"."+name, "."), fields)
	}
}
