package relay

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"sallyport/relay/admin"
)

// A logLevel is the log's level: the configuration's, or what an admin has told for a while.
type logLevel struct {
	log  *slog.Logger
	live *slog.LevelVar // nil: it cannot be changed

	mu    sync.Mutex  // guards what follows
	usual slog.Level  // the configuration's
	told  bool        // live is an admin's
	timer *time.Timer // ends that; nil: nothing does
	until time.Time   // when it does; zero: never
}

func newLogLevel(live *slog.LevelVar, log *slog.Logger, text string) *logLevel {
	return &logLevel{log: log, live: live, usual: parseLevel(text)}
}

// parseLevel reads what the configuration's check has admitted; left out it is info.
func parseLevel(text string) (l slog.Level) {
	if l.UnmarshalText([]byte(text)) != nil {
		return slog.LevelInfo
	}
	return l
}

// usually puts the configuration's level in force, unless an admin's is.
func (l *logLevel) usually(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.usual = parseLevel(text)
	if !l.told {
		l.set(l.usual)
	}
}

// tell puts an admin's level in force, for a while or, with 0, until the relay ends; nil goes back to the usual one.
func (l *logLevel) tell(level *slog.Level, length time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer, l.until = nil, time.Time{}
	}
	if l.told = level != nil; !l.told {
		l.set(l.usual)
		return
	}
	l.set(*level)
	if length <= 0 {
		return
	}
	var mine *time.Timer
	mine = time.AfterFunc(length, func() { l.expire(&mine) })
	l.timer, l.until = mine, time.Now().Add(length)
}

// expire goes back to the usual level, unless something else was told meanwhile.
func (l *logLevel) expire(timer **time.Timer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer == *timer {
		l.told, l.timer, l.until = false, nil, time.Time{}
		l.set(l.usual)
	}
}

// inForce is what the status says of it; nil if it is not known.
func (l *logLevel) inForce() *admin.LevelInForce {
	if l.live == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	word := func(level slog.Level) string { return strings.ToLower(level.String()) }
	return &admin.LevelInForce{Level: word(l.live.Level()), Usual: word(l.usual), Told: l.told, Until: l.until.UTC()}
}

// close stops the clock.
func (l *logLevel) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
}

// set is called under mu.
func (l *logLevel) set(want slog.Level) {
	if l.live == nil {
		return
	}
	if have := l.live.Level(); have != want {
		l.live.Set(want)
		l.log.Log(context.Background(), max(want, slog.LevelInfo), "the log level has changed", "from", have, "to", want)
	}
}
