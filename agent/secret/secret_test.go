package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	const value = "hunter2-and-more"
	s := New(value)
	type exported struct{ Password Secret }
	type hidden struct {
		password Secret
		list     []Secret
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, v := range []any{s, &s, exported{s}, &exported{s}, hidden{s, []Secret{s}}, map[string]Secret{"a": s}, []Secret{s}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	log := slog.New(slog.NewJSONHandler(&out, nil))
	log.Info("x", "s", s, "e", exported{s}, "h", hidden{s, nil}, "p", &s)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "s", s, "e", exported{s}, "h", hidden{s, nil}, "p", &s)
	if err := json.NewEncoder(&out).Encode([]any{s, exported{s}, map[string]Secret{"a": s}}); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value), fmt.Sprint([]byte(value))} {
		if strings.Contains(out.String(), form) {
			t.Errorf("printed as %q:\n%s", form, out.String())
		}
	}
	if !strings.Contains(out.String(), masked) {
		t.Error("the mask was not printed either: nothing was tested")
	}
	if s.Reveal() != value || (Secret{}).Reveal() != "" || !(Secret{}).Empty() {
		t.Error("Reveal or Empty is wrong")
	}
}
