package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sallyport/relay/store"
)

const (
	// maxLogReaders bounds how many read the log at once: each reads the disk.
	maxLogReaders = 8
	// logWriteTimeout is how long a reader may take nothing.
	logWriteTimeout = 30 * time.Second
	// logFlushEvery is how many events are sent together while there are more.
	logFlushEvery = 256
)

// Kinds of events that the relay keeps.
const (
	KindAccess = "access" // calls
	KindAdmin  = "admin"  // what admins did
)

// Outcomes of a Change.
const (
	OutcomeDone    = "done"
	OutcomeRefused = "refused" // nothing was changed, or nothing is known to be
)

// Change is the record of what an admin did or tried to do.
type Change struct {
	Time time.Time `json:"time"`
	// Actor is who: the user ID at the other end of the socket.
	Actor string `json:"actor"`
	// Event is what: "gateway added", or the request that was refused.
	Event   string `json:"event"`
	Outcome string `json:"outcome"`
	// On is what it was done on: gateway, connector, agent, key.
	On map[string]any `json:"on,omitempty"`
	// Detail is why it was refused.
	Detail string `json:"detail,omitempty"`
}

// LogQuery says which events are wanted. The zero value is all calls that are kept.
type LogQuery struct {
	Kind string // KindAccess or KindAdmin; "" is KindAccess
	// Since is the beginning: when the events were kept, that is at the end of a call.
	Since time.Time
	// Follow goes on with what comes.
	Follow bool
	// Gateway and Connector are names, "" for any.
	Gateway, Connector string
	// Status is a status (403) or a class of them (5xx), "" for any.
	Status string
}

func (l LogQuery) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"kind": l.Kind, "gateway": l.Gateway, "connector": l.Connector, "status": l.Status} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if !l.Since.IsZero() {
		v.Set("since", l.Since.UTC().Format(time.RFC3339Nano))
	}
	if l.Follow {
		v.Set("follow", "true")
	}
	return v
}

func readLogQuery(v url.Values) (l LogQuery, err error) {
	l = LogQuery{
		Kind: v.Get("kind"), Gateway: v.Get("gateway"), Connector: v.Get("connector"), Status: strings.ToLower(v.Get("status")),
		Follow: v.Get("follow") == "true",
	}
	if l.Kind != "" && l.Kind != KindAccess && l.Kind != KindAdmin {
		return l, &badRequest{fmt.Sprintf("kind: %.20q is not one of access, admin", l.Kind)}
	}
	if s := v.Get("since"); s != "" {
		if l.Since, err = time.Parse(time.RFC3339Nano, s); err != nil {
			return l, &badRequest{fmt.Sprintf("since: %.40q is no time (RFC 3339)", s)}
		}
	}
	if !validStatus(l.Status) {
		return l, &badRequest{fmt.Sprintf("status: %.20q is neither a status such as 403 nor a class such as 5xx", l.Status)}
	}
	if l.Status != "" && l.Kind == KindAdmin {
		return l, &badRequest{"status: only calls have one; leave it out with the kind admin"}
	}
	return l, nil
}

func validStatus(s string) bool {
	return s == "" || len(s) == 3 && s[0] >= '1' && s[0] <= '5' && (s[1:] == "xx" || isDigit(s[1]) && isDigit(s[2]))
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// filtered are the members of both kinds of events that a LogQuery looks at.
type filtered struct {
	Gateway   string `json:"gateway"`
	Connector string `json:"connector"`
	Status    int    `json:"status"`
	On        struct {
		Gateway   string `json:"gateway"`
		Connector string `json:"connector"`
	} `json:"on"`
}

// wants says whether an event is one of those asked for.
func (l LogQuery) wants(event []byte) bool {
	if l.Gateway == "" && l.Connector == "" && l.Status == "" {
		return true
	}
	var f filtered
	if json.Unmarshal(event, &f) != nil {
		return false
	}
	if l.Kind == KindAdmin {
		f.Gateway, f.Connector = f.On.Gateway, f.On.Connector
	}
	status := strconv.Itoa(f.Status)
	return (l.Gateway == "" || l.Gateway == f.Gateway) && (l.Connector == "" || l.Connector == f.Connector) &&
		(l.Status == "" || l.Status == status || strings.HasSuffix(l.Status, "xx") && l.Status[0] == status[0])
}

// serveLog streams events, one JSON object a line. It holds one batch in memory, whatever there is to read.
func (a *Admin) serveLog(w http.ResponseWriter, q *http.Request) {
	query, err := readLogQuery(q.URL.Query())
	if err != nil {
		a.answerError(w, q, err)
		return
	}
	select {
	case a.logReaders <- struct{}{}:
		defer func() { <-a.logReaders }()
	default:
		a.answerError(w, q, errLogBusy)
		return
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // nothing more is read; the server's deadline would end a follower
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Cache-Control", "no-store")
	out := &lineWriter{w: w, rc: rc}
	if err := out.flush(); err != nil {
		return
	}
	log := store.Calls
	if query.Kind == KindAdmin {
		log = store.Changes
	}
	err = a.c.Store.Read(q.Context(), log, query.Since, query.Follow, func(event []byte) error {
		select {
		case <-a.stopping:
			return errStopping // a follower would hold up the end of the relay
		default:
		}
		if event == nil {
			return out.flush()
		}
		if !query.wants(event) {
			return nil
		}
		return out.line(event)
	})
	if err != nil && q.Context().Err() == nil && out.err == nil && !(query.Follow && errors.Is(err, errStopping)) {
		a.c.Log.Error("the log could not be read to its end", "kind", query.Kind, "error", err)
		panic(http.ErrAbortHandler) // so that nobody takes a part for the whole
	}
	_ = out.flush()
}

// errStopping ends the reading of a log because the relay ends.
var errStopping = errors.New("the relay is stopping")

// A lineWriter sends lines to a reader of the log.
type lineWriter struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	pending int
	err     error
}

func (l *lineWriter) line(event []byte) error {
	_ = l.rc.SetWriteDeadline(time.Now().Add(logWriteTimeout))
	if _, l.err = l.w.Write(append(event[:len(event):len(event)], '\n')); l.err != nil {
		return l.err
	}
	if l.pending++; l.pending >= logFlushEvery {
		return l.flush()
	}
	return nil
}

func (l *lineWriter) flush() error {
	l.pending = 0
	_ = l.rc.SetWriteDeadline(time.Now().Add(logWriteTimeout))
	l.err = l.rc.Flush()
	return l.err
}

// event records a change and who made it: in the program's log, in the store, and wherever else the relay sends it. The
// change has taken effect, so that what goes wrong here is for the log alone.
func (a *Admin) event(q *http.Request, what string, attrs ...any) {
	who := actor(q.Context())
	a.c.Log.Info("admin: "+what, append([]any{"actor", who}, attrs...)...)
	on := map[string]any{}
	record := slog.NewRecord(time.Now(), slog.LevelInfo, what, 0)
	record.Add(attrs...)
	record.Attrs(func(attr slog.Attr) bool { on[attr.Key] = attr.Value.Any(); return true })
	a.record(q.Context(), Change{Actor: who, Event: what, Outcome: OutcomeDone, On: on})
}

// AgentEvent records what an agent did that admins should know of, as events are recorded. It is for gateway.Config.Event.
func (a *Admin) AgentEvent(ctx context.Context, actor, what string, on map[string]any) {
	a.record(ctx, Change{Actor: actor, Event: what, Outcome: OutcomeDone, On: on})
}

// refused records that a change was asked for and not made.
func (a *Admin) refused(q *http.Request, p *Problem) {
	if q.Method == http.MethodGet || q.Method == http.MethodHead || dryRun(q) {
		return
	}
	a.record(q.Context(), Change{Actor: actor(q.Context()), Event: q.Method + " " + q.URL.Path, Outcome: OutcomeRefused, Detail: p.Detail})
}

func (a *Admin) record(ctx context.Context, c Change) {
	c.Time = time.Now().UTC()
	line, err := json.Marshal(c)
	if err == nil {
		if a.c.Forward != nil {
			a.c.Forward(line)
		}
		err = a.c.Store.Record(context.WithoutCancel(ctx), line)
	}
	if err != nil {
		a.c.Log.Error("what an admin did could not be kept on record", "actor", c.Actor, "event", c.Event, "outcome", c.Outcome, "error", err)
	}
}
