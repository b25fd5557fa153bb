package admin

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
)

// LogLevel is the body of PUT /v1/log-level, and its answer.
type LogLevel struct {
	// Level is debug, info, warn or error, or usual: the one of relay.yaml.
	Level string `json:"level"`
	// For is how long it holds, in nanoseconds; 0: until the relay ends.
	For time.Duration `json:"forNs,omitempty"`
}

// LevelInForce is the level of the relay's log. Levels are debug, info, warn and error.
type LevelInForce struct {
	Level string `json:"level"`
	// Usual is the one of relay.yaml.
	Usual string `json:"usual"`
	// Told says that an admin has set Level instead, and Until, when that ends; zero: with the relay.
	Told  bool      `json:"told"`
	Until time.Time `json:"until,omitzero"`
}

// parse gives the level, nil for the usual one.
func (l LogLevel) parse() (*slog.Level, error) {
	if l.Level == "usual" {
		return nil, nil
	}
	var level slog.Level
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level) || level.UnmarshalText([]byte(strings.ToUpper(l.Level))) != nil {
		return nil, &badRequest{"the log level is none of debug, info, warn, error, usual"}
	}
	return &level, nil
}

func (a *Admin) setLogLevel(q *http.Request) (int, any, error) {
	var body LogLevel
	if err := read(q, &body); err != nil {
		return 0, nil, err
	}
	level, err := body.parse()
	switch {
	case err != nil:
		return 0, nil, err
	case body.For < 0 || level == nil && body.For > 0:
		return 0, nil, &badRequest{"a level holds for a time that is more than nothing, and the usual one for good"}
	case a.c.Level == nil:
		return 0, nil, &badRequest{"this relay's log level cannot be changed while it runs"}
	}
	a.event(q, "log level set", "level", body.Level, "for", body.For.String()) // first: the new level may not log it
	a.c.Level(level, body.For)
	return http.StatusOK, body, nil
}
