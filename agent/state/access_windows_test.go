package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// The SID that Windows gives the service: 'sc showsid sallyport-agent' of a real Windows says the same.
func TestServiceSID(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"TrustedInstaller": "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
		"trustedinstaller": "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
		"MSSQLSERVER":      "S-1-5-80-3880718306-3832830129-1677859214-2598158968-1052248003",
	} {
		sid, err := serviceSID(name)
		if err != nil || sid.String() != want {
			t.Errorf("serviceSID(%s) = %s, %v; want %s", name, sid, err, want)
		}
	}
}

const (
	stranger = "S-1-5-21-1-2-3-1105"
	gmsa     = "S-1-5-21-1-2-3-1106"
)

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

func TestJudgeRefusesWhatOthersCanReach(t *testing.T) {
	t.Parallel()
	a := people(t)
	own := a.service[0].String()
	for sddl, want := range map[string]string{
		"O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1301bf;;;" + own + ")":      "",
		"O:SYD:P(A;OICI;FA;;;SY)(A;OICI;0x1301bf;;;" + gmsa + ")":                     "",
		"O:" + gmsa + "D:P(A;;FA;;;SY)(A;;FA;;;BA)":                                   "",
		"O:" + a.self.String() + "D:P(A;;FA;;;" + a.self.String() + ")":               "",
		"O:BAD:P(A;;FA;;;SY)(A;OICIIO;GA;;;CO)":                                       "",
		"O:BAD:P(D;;FA;;;WD)(A;;FA;;;SY)":                                             "",
		"O:BAD:P(A;;FA;;;SY)(A;;RPWPCR;;;" + own + ")":                                "",
		"O:BAD:P(A;;0x100020;;;BU)":                                                   "", // to walk through it is no right to its content
		"O:" + stranger + "D:P(A;;FA;;;SY)(A;;FA;;;BA)":                               "owner",
		"O:BUD:P(A;;FA;;;SY)":                                                         "owner",
		"O:BAD:P(A;;FA;;;SY)(A;;FA;;;" + stranger + ")":                               stranger,
		"O:BAD:P(A;;FA;;;SY)(A;;FR;;;WD)":                                             "S-1-1-0",
		"O:BAD:P(A;;FA;;;SY)(A;;0x1200a9;;;BU)":                                       "S-1-5-32-545",
		"O:BAD:P(A;;FA;;;SY)(A;;FW;;;AU)":                                             "S-1-5-11",
		"O:BAD:P(A;;FA;;;SY)(A;;WD;;;AU)":                                             "S-1-5-11", // the right to change the list
		"O:BAD:P(A;;FA;;;SY)(A;;SD;;;IU)":                                             "S-1-5-4",  // the right to delete
		"O:BAD:P(A;;FA;;;SY)(A;OIIO;FR;;;BG)":                                         "S-1-5-32-546",
		"O:BAD:P(A;;FA;;;SY)(A;CIIO;FR;;;BG)":                                         "",
		"O:BAD:P(A;;FA;;;SY)(A;OICI;FA;;;BA)(A;;FR;;;S-1-5-80-1-2-3-4-5)(A;;FR;;;SY)": "S-1-5-80-1-2-3-4-5",
	} {
		sd, err := windows.SecurityDescriptorFromString(sddl)
		if err != nil {
			t.Errorf("%s: %v", sddl, err)
			continue
		}
		f, err := a.judge(sd, readData|changeData, readData|changeData)
		if err != nil {
			t.Errorf("%s: %v", sddl, err)
			continue
		}
		got := ""
		switch {
		case f == nil:
		case f.owner:
			got = "owner"
		default:
			got = f.String()
		}
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: judged %q, want %q", sddl, got, want)
		}
	}
}

func TestWhatIsMadeIsPrivate(t *testing.T) {
	t.Parallel()
	a := people(t)
	for _, elevated := range []bool{true, false} {
		a.elevated = elevated
		for _, dir := range []bool{true, false} {
			text := a.descriptor(dir, modify)
			sd, err := windows.SecurityDescriptorFromString(text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if f, err := a.judge(sd, readData|changeData, readData|changeData); err != nil || f != nil {
				t.Errorf("%s: %v, %v", text, f, err)
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
	h, _, err := openItself(loose)
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

// A file without an access list is everybody's.
func TestJudgeRefusesNoListAtAll(t *testing.T) {
	t.Parallel()
	a := people(t)
	sd, err := windows.NewSecurityDescriptor()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sd.SetOwner(a.admins, false), sd.SetDACL(nil, true, false)); err != nil {
		t.Fatal(err)
	}
	if f, err := a.judge(sd, readData, 0); err != nil || f == nil || f.String() != "everybody" {
		t.Errorf("judged %v, %v", f, err)
	}
}
