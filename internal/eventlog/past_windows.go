package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// From winevt.h.
const (
	queryChannel   = 0x1   // EvtQueryChannelPath
	queryNewest    = 0x200 // EvtQueryReverseDirection
	renderEventXML = 1     // EvtRenderEventXml

	// atOnce is how many events are fetched at a time, fetchTimeout in milliseconds how long that may take.
	atOnce       = 64
	fetchTimeout = 10_000
	// largestEvent bounds one in bytes: 31,839 characters of text, and each may be written as an entity.
	largestEvent = 1 << 20
)

var (
	wevtapi   = windows.NewLazySystemDLL("wevtapi.dll")
	evtQuery  = wevtapi.NewProc("EvtQuery")
	evtNext   = wevtapi.NewProc("EvtNext")
	evtRender = wevtapi.NewProc("EvtRender")
	evtClose  = wevtapi.NewProc("EvtClose")
)

// Read gives the events of a source in a log (Application, System) that are not older than since and that keep admits, the newest
// first, until their texts are limit bytes.
func Read(ctx context.Context, log, source string, since time.Duration, limit int, keep func(Past) bool) (list []Past, err error) {
	query := fmt.Sprintf("*[System[Provider[@Name='%s'] and TimeCreated[timediff(@SystemTime) <= %d]]]", source, since.Milliseconds())
	log16, err1 := windows.UTF16PtrFromString(log)
	query16, err2 := windows.UTF16PtrFromString(query)
	if err := errors.Join(err1, err2, evtQuery.Find()); err != nil {
		return nil, err
	}
	results, _, err := evtQuery.Call(0, uintptr(unsafe.Pointer(log16)), uintptr(unsafe.Pointer(query16)), queryChannel|queryNewest)
	if results == 0 {
		return nil, fmt.Errorf("ask the event log %s: %w", log, err)
	}
	defer evtClose.Call(results)
	r := reader{buffer: make([]uint16, 32<<10)}
	for limit > 0 {
		if err := ctx.Err(); err != nil {
			return list, fmt.Errorf("read the event log %s: %w", log, err)
		}
		var events [atOnce]uintptr
		var count uint32
		ok, _, err := evtNext.Call(results, atOnce, uintptr(unsafe.Pointer(&events[0])), fetchTimeout, 0, uintptr(unsafe.Pointer(&count)))
		if ok == 0 && errors.Is(err, windows.ERROR_NO_MORE_ITEMS) {
			return list, nil
		}
		if ok == 0 {
			return list, fmt.Errorf("read the event log %s: %w", log, err)
		}
		for _, event := range events[:count] {
			p, err := r.read(event)
			evtClose.Call(event)
			if err != nil {
				p = Past{Time: time.Now(), Source: source, Level: "unread", Data: []string{err.Error()}}
			} else if !keep(p) {
				continue
			}
			if limit -= p.size(); limit >= 0 {
				list = append(list, p)
			}
		}
	}
	return list, nil
}

// size is what its line takes, about.
func (p Past) size() int {
	n := 64
	for _, s := range p.Data {
		n += len(s)
	}
	return n
}

// A reader has the buffer that events are rendered into.
type reader struct{ buffer []uint16 }

func (r *reader) read(event uintptr) (Past, error) {
	for {
		var used, properties uint32 // used in bytes
		ok, _, err := evtRender.Call(0, event, renderEventXML, uintptr(2*len(r.buffer)), uintptr(unsafe.Pointer(&r.buffer[0])),
			uintptr(unsafe.Pointer(&used)), uintptr(unsafe.Pointer(&properties)))
		switch {
		case ok != 0:
			return ParseXML(windows.UTF16ToString(r.buffer))
		case !errors.Is(err, windows.ERROR_INSUFFICIENT_BUFFER) || used > largestEvent || int(used) <= 2*len(r.buffer):
			return Past{}, fmt.Errorf("render an event: %w", err)
		}
		r.buffer = make([]uint16, used/2+1)
	}
}
