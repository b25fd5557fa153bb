package systemd

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"
)

func TestLinesHaveTheirPriority(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	bare := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	level := new(slog.LevelVar)
	log := slog.New(NewHandler(&out, func(w io.Writer) slog.Handler {
		return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: bare})
	}))
	log.Debug("not yet")
	level.Set(slog.LevelDebug)
	log.Debug("a")
	log.With("slot", 1).Info("b\n<0>forged")
	log.WithGroup("g").Warn("c", "k", "v")
	log.Error("d")
	want := `<7>level=DEBUG msg=a
<6>level=INFO msg="b\n<0>forged" slot=1
<4>level=WARN msg=c g.k=v
<3>level=ERROR msg=d
`
	if out.String() != want {
		t.Errorf("it wrote\n%s\nwant\n%s", &out, want)
	}
}

func TestAnErrorThatIsToldElsewhereHasNoPrefix(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	Complain(&b, func(string) string { return "1:2" }, "a\nb")
	if b.String() != "a\nb\n" {
		t.Errorf("%q", b.String())
	}
}
