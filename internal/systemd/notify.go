// Package systemd is what a running service and systemd say to each other: that it is ready, how it is doing, that it is alive
// (sd_notify(3)), and how urgent a line of its log is (sd-daemon(3)). It is a datagram and a prefix, and does not install or rule
// services: internal/service does. Where systemd has not asked for it, all of it does nothing.
//
//	n := systemd.Open(os.Getenv, log)
//	err := n.Supervise(ctx, systemd.Service{Ask: a.Pulse, Stop: drain}, a.Run)
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// sendLimit bounds one datagram: it waits where systemd's queue is full.
	sendLimit = time.Second
	// askEvery is how often the service is asked how it is, if no watchdog wants it more often; askFirst is when it is asked a
	// second time, because at the very start it has not got far, and that is when its admin looks.
	askEvery = 5 * time.Second
	askFirst = time.Second
	// beats is how many answers there are to one period of the watchdog: two of them may be late.
	beats = 3
	// textLimit bounds a status line, for terminals.
	textLimit = 300
)

// A Notifier tells systemd about this process. A nil one tells nobody.
type Notifier struct {
	address  *net.UnixAddr
	watchdog time.Duration // 0: none
	log      *slog.Logger
}

// Open gives the Notifier that the environment asks for (NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID), nil if it asks for none.
// log takes what goes wrong with it.
func Open(getenv func(string) string, log *slog.Logger) *Notifier {
	path := getenv("NOTIFY_SOCKET")
	if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") { // net takes @ for the abstract namespace, as systemd does
		return nil
	}
	return &Notifier{&net.UnixAddr{Name: path, Net: "unixgram"}, watchdog(getenv), log}
}

// watchdog is the time within which systemd wants to hear of this process.
func watchdog(getenv func(string) string) time.Duration {
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0 // meant for the process that started this one
	}
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > int64(24*time.Hour/time.Microsecond) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}

// A Service is what there is to tell of one.
type Service struct {
	// Ask has the service's own loops answer how it is doing, in a line for an admin. The watchdog is fed by answers alone, so
	// Ask must fail, or wait, where the service has come to a halt.
	Ask func(context.Context) (string, error)
	// Stop is how long the service may take from the end of its context on; systemd is told not to end it before that. Nil: the unit
	// says how long.
	Stop func() time.Duration
}

// Supervise runs a service that has been prepared as far as it can be, and tells of it until it has ended: it is ready, how it
// is doing, that it is alive, and, once ctx ends, that it stops.
func (n *Notifier) Supervise(ctx context.Context, s Service, run func(context.Context) error) error {
	if n == nil {
		return run(ctx)
	}
	n.send("READY=1")
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	var telling sync.WaitGroup
	telling.Go(func() { n.tell(late, ctx.Done(), s) })
	err := run(ctx)
	end()
	telling.Wait()
	return err
}

// tell goes on while the service drains: that is when it must not be taken for dead.
func (n *Notifier) tell(ctx context.Context, stopping <-chan struct{}, s Service) {
	every, limit := askEvery, askEvery
	if n.watchdog > 0 {
		limit = n.watchdog / beats
		every = min(every, limit)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	first := time.NewTimer(min(askFirst, every))
	defer first.Stop()
	b := beat{n: n, ask: s.Ask, limit: limit}
	for {
		b.once(ctx)
		select {
		case <-ctx.Done():
			return
		case <-stopping:
			stopping, b.prefix = nil, "draining: "
			n.send(s.stopping()...)
		case <-first.C:
		case <-tick.C:
		}
	}
}

func (s Service) stopping() []string {
	if s.Stop == nil {
		return []string{"STOPPING=1"}
	}
	return []string{"STOPPING=1", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", s.Stop().Microseconds())}
}

// A beat is one question to the service, and what was told of its last answer.
type beat struct {
	n      *Notifier
	ask    func(context.Context) (string, error)
	limit  time.Duration
	prefix string
	told   string
	failed bool
}

func (b *beat) once(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, b.limit)
	defer cancel()
	text, err := b.ask(within)
	if ctx.Err() != nil {
		return // it has ended
	}
	var words []string
	if err != nil {
		text = "does not answer: " + err.Error()
	} else if b.n.watchdog > 0 {
		words = append(words, "WATCHDOG=1")
	}
	if err != nil && !b.failed && b.n.watchdog > 0 {
		b.n.log.Error("the service does not answer itself; systemd restarts it unless that ends", "error", err, "within", b.n.watchdog)
	}
	b.failed = err != nil
	if text = line(b.prefix + text); text != b.told {
		words = append(words, "STATUS="+text)
	}
	if len(words) > 0 && b.n.send(words...) {
		b.told = text
	}
}

// Reloading says that the configuration is read again, until what it returns is called.
func (n *Notifier) Reloading() (done func()) {
	if n == nil {
		return func() {}
	}
	n.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()))
	return func() { n.send("READY=1") }
}

// send reports whether the datagram has left. Each has a socket of its own: systemd may be started anew meanwhile.
func (n *Notifier) send(words ...string) bool {
	conn, err := net.DialUnix("unixgram", nil, n.address)
	if err == nil {
		_ = conn.SetWriteDeadline(time.Now().Add(sendLimit)) // a socket that was just opened takes it
		_, err = conn.Write([]byte(strings.Join(words, "\n")))
		_ = conn.Close()
	}
	if err != nil {
		n.log.Warn("systemd could not be told how the service is doing", "error", err)
	}
	return err == nil
}

// line makes a text fit for one line: a line break in it would be a message of its own.
func line(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if r := []rune(text); len(r) > textLimit {
		text = string(r[:textLimit]) + "..."
	}
	return text
}
