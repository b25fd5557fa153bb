package relay

import (
	"context"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"sallyport/relay/connector"
)

// Deps is what a relay needs besides its configuration.
type Deps struct {
	// Version is what the program calls itself.
	Version string
	// Log takes everything that an admin should know. Level is its level, if that can be changed while the relay runs.
	Log   *slog.Logger
	Level *slog.LevelVar
	// Kept is a listener that was open before this process was; it is used if it has the configured address. Nil: none was.
	Kept net.Listener
	// Keep is given the public listener once it is open, so that it can be kept while the relay is restarted; nil: it is not.
	Keep func(net.Listener)
	// Again has the configuration read again (SIGHUP), by Read; nil: it never is.
	Again <-chan struct{}
	Read  func() (Config, error)
	// Rereading is told when that begins, and what it returns when it has ended; nil: nobody is told.
	Rereading func() (done func())
}

// reloadable are the settings that can change while the relay runs. Certificate files are followed by themselves.
var reloadable = [...]string{
	"log.level", "timeouts.drain", "timeouts.answer", "timeouts.power_platform", "timeouts.idle",
	"limits.body", "limits.calls", "limits.calls_per_connector",
}

// Reload puts in force what can change while the relay runs, says what cannot, and drops no call.
func (r *Relay) Reload(next Config) {
	r.level.usually(next.Log.Level)
	r.drainLimit.Store(int64(orElse(next.Timeouts.Drain, defaultDrain)))
	r.proxy.Rebound(connector.Bounds{
		BodyLimit: int64(next.Limits.Body), Concurrent: next.Limits.Calls, ConcurrentEach: next.Limits.CallsPerConnector,
		AnswerTimeout: next.Timeouts.Answer, PlatformTimeout: next.Timeouts.PowerPlatform, IdleTimeout: next.Timeouts.Idle,
	})
	r.log.Info("configuration read again")
	if rest := changed(r.config, next); len(rest) > 0 {
		r.log.Warn("these settings count from the next start: restart the relay", "settings", strings.Join(rest, ", "))
	}
}

// DrainLimit is how long calls may go on when the relay is stopped.
func (r *Relay) DrainLimit() time.Duration { return time.Duration(r.drainLimit.Load()) }

// changed names the settings that differ and cannot be reloaded.
func changed(was, is Config) []string {
	names := differences("", reflect.ValueOf(was), reflect.ValueOf(is))
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(reloadable[:], name) })
}

// differences names settings as relay.yaml does; a list, or a part that is not there, is one.
func differences(prefix string, was, is reflect.Value) (names []string) {
	for i := range was.NumField() {
		name := prefix + strings.Split(was.Type().Field(i).Tag.Get("yaml"), ",")[0]
		a, b := was.Field(i), is.Field(i)
		switch {
		case reflect.DeepEqual(a.Interface(), b.Interface()):
		case a.Kind() == reflect.Struct:
			names = append(names, differences(name+".", a, b)...)
		default:
			names = append(names, name)
		}
	}
	return names
}

// follow reads the configuration again when that is asked for, until ctx ends. A broken one changes nothing.
func (r *Relay) follow(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.deps.Again:
			r.reread()
		}
	}
}

func (r *Relay) reread() {
	if r.deps.Rereading != nil {
		defer r.deps.Rereading()()
	}
	next, err := r.deps.Read()
	if err != nil {
		for one := range strings.Lines(err.Error()) {
			r.log.Error("the configuration is wrong; the previous one stays in force", "error", strings.TrimSpace(one))
		}
		return
	}
	r.Reload(next)
}
