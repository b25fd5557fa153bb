package systemd

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestTheJournalIsTheStreamThatIsNamed(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	named := stream(f)
	env := func(value string) func(string) string {
		return func(name string) string {
			if name == "JOURNAL_STREAM" {
				return value
			}
			return ""
		}
	}
	if !IsJournal(f, env(named)) {
		t.Errorf("the file is %q and not known", named)
	}
	if IsJournal(f, env("")) || IsJournal(f, env("1:2")) || IsJournal(io.Discard, env(named)) || IsJournal(os.Stdin, env(named)) {
		t.Error("something else is taken for the journal")
	}
	Complain(f, env(named), "first\nsecond")
	Complain(f, env(""), "to a terminal\n")
	text, err := os.ReadFile(f.Name())
	if want := "<3>first\n<3>second\nto a terminal\n"; err != nil || string(text) != want {
		t.Errorf("it wrote %q, %v; want %q", text, err, want)
	}
}
