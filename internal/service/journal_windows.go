package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/windows"

	"sallyport/internal/eventlog"
)

// journalLimit bounds, in bytes, how much of each log is read: its newest part.
const journalLimit = 4 << 20

// Journal gives the service's log of the last since: what it wrote to the event log, and what Windows' service manager said of it.
// What can be had is given beside an error.
func Journal(ctx context.Context, s Spec, since time.Duration) ([]byte, error) {
	own, err1 := eventlog.Read(ctx, "Application", s.Name, since, journalLimit, func(eventlog.Past) bool { return true })
	of, err2 := eventlog.Read(ctx, "System", eventlog.Manager, since, journalLimit, func(p eventlog.Past) bool { return p.Names(s.Name, s.Display) })
	all := append(own, of...)
	slices.Reverse(all) // so that those of one moment are in their order
	slices.SortStableFunc(all, func(a, b eventlog.Past) int { return a.Time.Compare(b.Time) })
	var out bytes.Buffer
	for _, p := range all {
		fmt.Fprintln(&out, p)
	}
	return out.Bytes(), errors.Join(err1, err2)
}

// logonFailure is why Windows did not log the service's account on, which error 1069 keeps to itself: the manager has put it into
// the event log just before. Where that cannot be read it is the 1069.
func logonFailure(ctx context.Context, s Spec) error {
	list, err := eventlog.Read(ctx, "System", eventlog.Manager, logonFailureAge, journalLimit, func(p eventlog.Past) bool {
		return logonCode(p, s) != 0
	})
	if err != nil || len(list) == 0 {
		return windows.ERROR_SERVICE_LOGON_FAILED
	}
	return fmt.Errorf("the service's account could not log on (error %d): %w", windows.ERROR_SERVICE_LOGON_FAILED, logonCode(list[0], s))
}

// logonFailureAge is how old the event may be: one of the start of the machine counts, one of an earlier account seldom.
const logonFailureAge = 7 * 24 * time.Hour

// logonCode is the error in an event of a failed logon of the service; 0 for any other.
func logonCode(p eventlog.Past, s Spec) windows.Errno {
	const failed, noRight = 7038, 7041
	switch {
	case !p.Names(s.Name, s.Display):
	case p.ID == noRight:
		return windows.ERROR_LOGON_TYPE_NOT_GRANTED
	case p.ID == failed && len(p.Data) > 2:
		code, err := strconv.ParseUint(strings.TrimPrefix(p.Data[2], "%%"), 10, 32)
		if err == nil {
			return windows.Errno(code)
		}
	}
	return 0
}
