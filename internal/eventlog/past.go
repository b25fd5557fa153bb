package eventlog

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Past is an event that is in the log.
type Past struct {
	Time   time.Time
	Source string
	ID     uint32
	Level  string // error, warning, info
	// Data are its texts: of an event of ours the whole, of another source's what goes into its sentence.
	Data []string
}

// xmlEvent is what Windows makes of an event (the schema "Event" of Windows Event Log), as far as it is asked for.
type xmlEvent struct {
	System struct {
		Provider struct {
			Name   string `xml:"Name,attr"`
			Source string `xml:"EventSourceName,attr"`
		}
		EventID     uint32
		Level       int
		TimeCreated struct {
			SystemTime string `xml:"SystemTime,attr"`
		}
	}
	EventData struct {
		Data []string
	}
}

// ParseXML reads an event in the form that EvtRender gives it.
func ParseXML(text string) (Past, error) {
	var e xmlEvent
	if err := xml.Unmarshal([]byte(strings.Map(legal, text)), &e); err != nil {
		return Past{}, fmt.Errorf("read an event: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, e.System.TimeCreated.SystemTime)
	if err != nil {
		return Past{}, fmt.Errorf("read an event's time: %w", err)
	}
	level := "info"
	switch e.System.Level {
	case 1, 2: // critical, error
		level = "error"
	case 3:
		level = "warning"
	}
	return Past{at, cmp.Or(e.System.Provider.Source, e.System.Provider.Name), e.System.EventID, level, e.EventData.Data}, nil
}

// legal takes away what no XML may have and Windows writes all the same.
func legal(r rune) rune {
	if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
		return -1
	}
	return r
}

// Manager is the source of what Windows' service manager says, in the log System.
const Manager = "Service Control Manager"

// managerSays words the events that tell why a service does not run. Windows keeps the sentences apart from the log, in the language
// of the machine.
var managerSays = map[uint32]string{
	7000: "could not be started",
	7001: "could not be started, because what it depends on could not be",
	7009: "was started and said nothing in time",
	7011: "did not answer in time",
	7022: "hung while it started",
	7023: "ended with an error",
	7024: "ended with an error of its own",
	7031: "ended unexpectedly; Windows does something about it",
	7032: "could not be started again after it ended unexpectedly",
	7034: "ended unexpectedly",
	7038: "its account could not log on",
	7040: "its start type was changed",
	7041: "its account lacks the right to log on as a service",
	7045: "was installed",
}

// String is the event as a line and what else it has to say, indented.
func (p Past) String() string {
	head := fmt.Sprintf("%s %-7s %s %d ", p.Time.UTC().Format(time.RFC3339), p.Level, p.Source, p.ID)
	if says := managerSays[p.ID]; says != "" && strings.EqualFold(p.Source, Manager) {
		return head + says + ": " + quoted(p.Data)
	}
	if len(p.Data) != 1 {
		return head + quoted(p.Data)
	}
	text := strings.ReplaceAll(strings.TrimSpace(p.Data[0]), "\r\n", "\n")
	text, rest, _ := strings.Cut(text, "\n")
	if rest = strings.TrimSpace(rest); rest != "" {
		text += "\n    " + strings.ReplaceAll(rest, "\n", "\n    ")
	}
	return head + text
}

func quoted(list []string) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = strconv.Quote(s)
	}
	return strings.Join(words, ", ")
}

// Names says whether one of the event's texts is one of these.
func (p Past) Names(names ...string) bool {
	return slices.ContainsFunc(p.Data, func(s string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(s, n) })
	})
}
