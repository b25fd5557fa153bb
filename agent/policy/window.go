package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // Windows has no zones under their IANA names
)

// A window is a span of the clock on some days of the week, in one place. It goes by what the clocks there show: where they
// are put back, an hour that is shown twice counts twice; where they are put forward, one that is not shown does not count.
type window struct {
	days     [7]bool // on which it begins, by time.Weekday
	from, to int     // minutes of the day; to <= from: it ends the day after
	zone     *time.Location
}

// windowForm is what errors show.
const windowForm = "write it as \"Mon-Fri 07:00-19:00 Europe/Berlin\""

// parseWindow reads DAYS HH:MM-HH:MM ZONE. DAYS may be left out: every day.
func parseWindow(text string) (w window, err error) {
	fields := strings.Fields(text)
	if len(fields) == 2 {
		fields = append([]string{"Mon-Sun"}, fields...)
	}
	if len(fields) != 3 || len(text) > maxTerm {
		return w, fmt.Errorf("%.80q is no time window (%s)", text, windowForm)
	}
	if err := w.parseDays(fields[0]); err != nil {
		return w, err
	}
	from, to, ok := strings.Cut(fields[1], "-")
	var fromOK, toOK bool
	w.from, fromOK = clock(from)
	w.to, toOK = clock(to)
	if !ok || !fromOK || !toOK || w.from == minutesOfDay || w.from == w.to {
		return w, fmt.Errorf("%.40q is no span of time (write two times from 00:00 to 24:00 as 07:00-19:00; 22:00-06:00 ends the day after)", fields[1])
	}
	if w.zone, err = time.LoadLocation(fields[2]); err != nil || fields[2] == "Local" {
		return w, fmt.Errorf("%.60q is no time zone (write one such as Europe/Berlin, or UTC)", fields[2])
	}
	return w, nil
}

const minutesOfDay = 24 * 60

// clock reads HH:MM.
func clock(s string) (minute int, ok bool) {
	if len(s) != 5 || s[2] != ':' || strings.Trim(s[:2]+s[3:], "0123456789") != "" {
		return 0, false
	}
	h, m := int(s[0]-'0')*10+int(s[1]-'0'), int(s[3]-'0')*10+int(s[4]-'0')
	return h*60 + m, h < 24 && m < 60 || h == 24 && m == 0
}

func dayNames() []string { return []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"} }

// parseDays reads Mon-Fri, Sat,Sun or Fri-Mon.
func (w *window) parseDays(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		first, last, ok := strings.Cut(part, "-")
		if !ok {
			last = first
		}
		from, to := slices.Index(dayNames(), first), slices.Index(dayNames(), last)
		if from < 0 || to < 0 {
			return fmt.Errorf("%.40q are no days (write Mon, Tue, Wed, Thu, Fri, Sat, Sun, as in Mon-Fri or Sat,Sun)", text)
		}
		for d := from; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == to {
				break
			}
		}
	}
	return nil
}

func (w window) holds(now time.Time) bool {
	t := now.In(w.zone)
	today, minute := int(t.Weekday()), t.Hour()*60+t.Minute()
	if w.from < w.to {
		return w.days[today] && minute >= w.from && minute < w.to
	}
	return w.days[today] && minute >= w.from || w.days[(today+6)%7] && minute < w.to
}

func (w window) canonical() string {
	return fmt.Sprintf("%v %d-%d %s", w.days, w.from, w.to, w.zone)
}
