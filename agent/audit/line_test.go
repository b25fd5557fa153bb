package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fullEvent has a value in every field, whatever fields there will be.
func fullEvent(t *testing.T) Event {
	t.Helper()
	e := Event{Time: time.Date(2026, 11, 23, 8, 0, 0, 123456000, time.UTC)}
	v := reflect.ValueOf(&e).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("a \"b\" \\ é 😀 \x00\x1b[2J\u2028<" + v.Type().Field(i).Name + ">")
		case reflect.Int, reflect.Int64:
			f.SetInt(int64(i) + 1)
		case reflect.Uint64:
			f.SetUint(uint64(i) + 1)
		case reflect.Float64:
			f.SetFloat(1.625)
		case reflect.Map:
			f.Set(reflect.ValueOf(map[string]string{"b": "2\n", "a \"": "1"}))
		case reflect.Struct: // Time
		default:
			t.Fatalf("field %s is of a kind that this test does not fill", v.Type().Field(i).Name)
		}
	}
	return e
}

func TestLinesAreWhatTheTagsSay(t *testing.T) {
	type tagged struct {
		Version int    `json:"v"`
		N       uint64 `json:"n"`
		Event
	}
	for name, e := range map[string]Event{"every field": fullEvent(t), "none": {}, "bad UTF-8": {Kind: Call, Path: "/a\xff\xfeb"}} {
		line, _ := link{n: 6}.append(nil, e)
		if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
			t.Errorf("%s: not one line: %q", name, line)
		}
		for _, b := range line[:len(line)-1] {
			if b < ' ' || b >= 0x7f {
				t.Errorf("%s: byte %#x in %q", name, b, line)
			}
		}
		byTags, err := json.Marshal(tagged{formatVersion, 7, e})
		if err != nil {
			t.Fatal(err)
		}
		var got, want map[string]any
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%s: %v: %q", name, err, line)
		}
		delete(got, "h")
		if err := json.Unmarshal(byTags, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-by the tags +written):\n%s", name, diff)
		}
	}
}

func BenchmarkAppendLine(b *testing.B) {
	e := Event{
		Time: time.Now(), Kind: Call, Request: strings.Repeat("A", 26), API: "orders", Method: "GET", Path: "/orders/4711",
		Caller: "key:sp_abcdef", Verdict: Allowed, Rule: "GET /orders/**", Status: 200, Out: 900, Millis: 1.25,
	}
	var buf []byte
	var at link
	b.Run("line", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = appendLine(buf[:0], 1, e)
		}
	})
	b.Run("chained", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, at = at.append(buf[:0], e)
		}
	})
}
