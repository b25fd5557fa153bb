package eventlog

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// As Windows Server 2022 renders them.
const (
	ourEvent = `<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='sallyport-agent'/>` +
		`<EventID Qualifiers='0'>121</EventID><Version>0</Version><Level>3</Level><Task>0</Task><Opcode>0</Opcode><Keywords>0x80000000000000</Keywords>` +
		`<TimeCreated SystemTime='2026-01-02T03:04:05.1234567Z'/><EventRecordID>4711</EventRecordID><Correlation/><Execution ProcessID='0' ThreadID='0'/>` +
		`<Channel>Application</Channel><Computer>srv1.corp.example</Computer><Security/></System>` +
		"<EventData><Data>no link; trying again\r\n\r\nslot=1 error=\"a &lt;b&gt; &amp; c\"</Data></EventData></Event>"
	managersEvent = `<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='Service Control Manager' ` +
		`Guid='{555908d1-a6d7-4695-8e1e-26931d2012f4}' EventSourceName='Service Control Manager'/><EventID Qualifiers='49152'>7038</EventID><Version>0</Version>` +
		`<Level>2</Level><TimeCreated SystemTime='2026-01-02T03:04:04Z'/><Channel>System</Channel></System><EventData>` +
		`<Data Name='param1'>sallyport-agent</Data><Data Name='param2'>CORP\svc</Data><Data Name='param3'>%%1326</Data><Binary>7300</Binary></EventData></Event>`
)

func TestEventsAreReadFromTheirXML(t *testing.T) {
	t.Parallel()
	got, err := ParseXML(ourEvent)
	want := Past{
		time.Date(2026, 1, 2, 3, 4, 5, 123456700, time.UTC), "sallyport-agent", 121, "warning",
		[]string{"no link; trying again\n\nslot=1 error=\"a <b> & c\""}, // XML has one end of line
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if got, want := got.String(), "2026-01-02T03:04:05Z warning sallyport-agent 121 no link; trying again\n    slot=1 error=\"a <b> & c\""; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	got, err = ParseXML(managersEvent)
	if err != nil {
		t.Fatal(err)
	}
	const line = `2026-01-02T03:04:04Z error   Service Control Manager 7038 its account could not log on: "sallyport-agent", "CORP\\svc", "%%1326"`
	if got.String() != line {
		t.Errorf("%q, want %q", got, line)
	}
	if !got.Names("Sallyport agent", "SALLYPORT-AGENT") || got.Names("svc") {
		t.Error("whose event it is was misread")
	}
}

// Windows writes characters that no XML may have; an event with one is no worse than another.
func TestEventsWithControlCharacters(t *testing.T) {
	t.Parallel()
	got, err := ParseXML(strings.Replace(ourEvent, "no link", "no\x01 \x1blink", 1))
	if err != nil || !strings.HasPrefix(got.Data[0], "no link") {
		t.Errorf("%q, %v", got.Data, err)
	}
	for _, wrong := range []string{"", "<Event>", "<Event></Event>", strings.Replace(ourEvent, "2026-01-02T", "yesterday ", 1)} {
		if got, err := ParseXML(wrong); err == nil {
			t.Errorf("%q is an event: %v", wrong, got)
		}
	}
}

func FuzzParseXML(f *testing.F) {
	f.Add(ourEvent)
	f.Add(managersEvent)
	f.Add("<Event><System><EventID>-1</EventID></System></Event>")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParseXML(text); err == nil && strings.Count(p.String(), "\n") > len(text) {
			t.Errorf("%q", p)
		}
	})
}
