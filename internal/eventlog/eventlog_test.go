package eventlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// A stuck is an event log that takes nothing until it is let go; then it refuses every third event.
type stuck struct {
	sink
	free chan struct{}
	n    int
}

func (s *stuck) Info(id uint32, text string) error {
	<-s.free
	if s.n++; s.n%3 == 0 {
		return errors.New("the log is full")
	}
	return s.sink.Info(id, text)
}

// Nobody waits for an event log that hangs; what it did not get is counted and told, and the rest comes in its order, what was
// queued at the end too.
func TestNobodyWaitsForTheEventLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{free: make(chan struct{})}
		var said bytes.Buffer
		f := NewForwarder(s, slog.New(slog.NewTextHandler(&said, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { f.Run(ctx); close(done) }()
		for i := range maxQueue + 100 {
			f.Send(Line{300, slog.LevelInfo, fmt.Sprintf("line %d", i)})
			if i == 0 {
				synctest.Wait() // the writer has the first one and hangs
			}
		}
		if got := f.Dropped(); got != 99 {
			t.Errorf("%d lines were dropped, not the 99 that found the queue full", got)
		}
		cancel()
		close(s.free)
		<-done
		lost := uint64(99 + (maxQueue+1)/3)
		if f.Dropped() != lost || len(s.sink) != maxQueue+100-int(lost) {
			t.Errorf("%d lost and %d written", f.Dropped(), len(s.sink))
		}
		if s.sink[0] != "info 300 line 0" || s.sink[len(s.sink)-1] != fmt.Sprintf("info 300 line %d", maxQueue) {
			t.Errorf("from %q to %q", s.sink[0], s.sink[len(s.sink)-1])
		}
		if !strings.Contains(said.String(), fmt.Sprint("lines=", lost)) {
			t.Errorf("the log says %s", said.String())
		}
	})
}

// While it goes on, the log is told of losses once a minute, with what the event log said.
func TestLossesAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{free: make(chan struct{})}
		close(s.free)
		var said bytes.Buffer
		f := NewForwarder(s, slog.New(slog.NewTextHandler(&said, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { f.Run(ctx); close(done) }()
		for range 7 {
			f.Send(Line{300, slog.LevelInfo, "x"})
		}
		time.Sleep(3 * warnEvery)
		cancel()
		<-done
		if got := said.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `lines=2 cause="the log is full"`) {
			t.Errorf("the log says %s", got)
		}
	})
}

// The program's end does not wait for an event log that hangs.
func TestAnEventLogThatHangsEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{free: make(chan struct{})}
		f := NewForwarder(s, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		f.Send(Line{300, slog.LevelInfo, "x"})
		done := make(chan struct{})
		go func() { f.Run(ctx); close(done) }()
		synctest.Wait()
		cancel()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("it waits for ever")
		}
		close(s.free)
	})
}
