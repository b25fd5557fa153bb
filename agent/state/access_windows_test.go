package state

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

const gmsa = "S-1-5-21-1-2-3-1106"

func people(t *testing.T) *accounts {
	t.Helper()
	a, err := whoMay()
	if err != nil {
		t.Fatal(err)
	}
	more, err := windows.StringToSid(gmsa)
	if err != nil {
		t.Fatal(err)
	}
	a.service = append(a.service, more)
	return a
}

func TestWhatIsMadeIsPrivate(t *testing.T) {
	t.Parallel()
	a := people(t)
	for _, elevated := range []bool{true, false} {
		a.elevated = elevated
		for _, dir := range []bool{true, false} {
			text := a.descriptor(dir, modify)
			for _, entry := range strings.Split(text, ";;;")[1:] {
				who, _, _ := strings.Cut(entry, ")")
				if !slices.Contains([]string{"SY", "BA", a.self.String(), a.service[0].String(), gmsa}, who) {
					t.Errorf("%s lets %s in", text, who)
				}
			}
			forService := strings.Contains(text, ";0x1301bf;;;"+a.service[0].String()+")") && strings.Contains(text, ";0x1301bf;;;"+gmsa+")")
			if forService != elevated {
				t.Errorf("an administrator: %t, but the service is let in: %t (%s)", elevated, forService, text)
			}
			if strings.Contains(text, "OICI") != dir || !strings.Contains(text, "D:P(") {
				t.Errorf("a folder: %t, but %s", dir, text)
			}
		}
	}
}

// What a process makes, it may read, and says of somebody else's what to do.
func TestAccessOnTheDisk(t *testing.T) {
	t.Parallel()
	d := open(t)
	if err := d.Write("key", []byte("k")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read("key", 10); err != nil {
		t.Errorf("its own file: %v", err)
	}
	loose := filepath.Join(t.TempDir(), "loose")
	if err := os.Mkdir(loose, 0o700); err != nil {
		t.Fatal(err)
	}
	sd, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;" + people(t).self.String() + ")(A;OICI;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := openItself(loose, windows.READ_CONTROL|windows.WRITE_DAC)
	if err != nil {
		t.Fatal(err)
	}
	err = windows.SetKernelObjectSecurity(h, windows.DACL_SECURITY_INFORMATION, sd)
	windows.CloseHandle(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(loose); !errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), "S-1-1-0") || !strings.Contains(err.Error(), "icacls") {
		t.Errorf("a folder that everybody may write: %v; want ErrExposed, who, and the mend", err)
	}
}

// On a disk of Wine's the lists are not kept, so that this says nothing of Secured.
func TestSecureIsForTheServiceAndAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "made", "state")
	for range 2 {
		if err := Secure(path, `NT SERVICE\`+Service, filepath.Join(path, "agent.yaml")); err != nil {
			t.Fatal(err)
		}
		d, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Write("agent.yaml", []byte("x")), d.Write("identity.json", []byte("x"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := Secure(path, `NOWHERE\nobody`, ""); err == nil || !strings.Contains(err.Error(), `NOWHERE\nobody`) {
		t.Errorf("an account that is not there: %v", err)
	}
	if err := os.Link(filepath.Join(path, "identity.json"), filepath.Join(t.TempDir(), "other")); err != nil {
		t.Fatal(err)
	}
	if err := Secure(path, `NT SERVICE\`+Service, ""); err == nil || !strings.Contains(err.Error(), "another name") {
		t.Errorf("a file with two names: %v", err)
	}
}

// Where the service's account is changed, what it made as the account before is taken over, and that account gets no right to it.
func TestWhatTheAccountBeforeMadeIsTakenOver(t *testing.T) {
	t.Parallel()
	old, err := windows.StringToSid("S-1-5-21-1-2-3-1107")
	if err != nil {
		t.Fatal(err)
	}
	a := people(t)
	a.elevated = true
	if !slices.ContainsFunc(a.owners([]*windows.SID{old}), old.Equals) {
		t.Error("what the account before owns is not taken over")
	}
	if slices.ContainsFunc(a.list(), old.Equals) || strings.Contains(a.descriptor(true, modify), old.String()) {
		t.Error("the account before may use what is there")
	}
}
