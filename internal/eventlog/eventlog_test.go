package eventlog

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type sink []string

func (s *sink) Info(id uint32, text string) error    { return s.add("info", id, text) }
func (s *sink) Warning(id uint32, text string) error { return s.add("warning", id, text) }
func (s *sink) Error(id uint32, text string) error   { return s.add("error", id, text) }

func (s *sink) add(kind string, id uint32, text string) error {
	*s = append(*s, fmt.Sprintf("%s %d %s", kind, id, text))
	return nil
}

func TestEventsHaveTheirIDs(t *testing.T) {
	t.Parallel()
	var got sink
	level := new(slog.LevelVar)
	log := slog.New(New(&got, []Event{{ID: 120, Message: "link up"}, {ID: 121, Message: "no link"}}, level)).With("slot", 1)
	log.Info("link up", "relay", "https://relay.example.com")
	log.Info("nobody asks for this one")
	log.Debug("link up")
	log.Warn("no link; trying again", "error", "two\nlines and a \x00")
	log.WithGroup("g").Warn("something new", "msg", "x")
	log.Error("something bad")
	level.Set(slog.LevelError)
	log.Warn("no link; trying again")
	log.Error("no link; given up")
	want := sink{
		"info 120 link up\r\n\r\nslot=1 relay=https://relay.example.com",
		"warning 121 no link; trying again\r\n\r\nslot=1 error=\"two\\nlines and a \\x00\"",
		"warning 2 something new\r\n\r\nslot=1 g.msg=x",
		"error 3 something bad\r\n\r\nslot=1",
		"error 121 no link; given up\r\n\r\nslot=1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEventsFitIntoTheLog(t *testing.T) {
	t.Parallel()
	var got sink
	slog.New(New(&got, nil, slog.LevelInfo)).Error("a\x00b", "long", strings.Repeat("x", 2*textLimit))
	if len(got) != 1 || len(got[0]) > textLimit+20 || strings.Contains(got[0], "\x00") {
		t.Errorf("%d events, the first has %d bytes", len(got), len(got[0]))
	}
}
