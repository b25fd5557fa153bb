package access

import (
	"errors"
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
		sid, err := ServiceSID(name)
		if err != nil || sid.String() != want {
			t.Errorf("ServiceSID(%s) = %s, %v; want %s", name, sid, err, want)
		}
	}
}

const (
	stranger = "S-1-5-21-1-2-3-1105"
	gmsa     = "S-1-5-21-1-2-3-1106"
	self     = "S-1-5-21-1-2-3-1107"
)

func list(t *testing.T) (l List) {
	t.Helper()
	for _, text := range []string{"S-1-5-18", "S-1-5-32-544", gmsa, self} {
		sid, err := windows.StringToSid(text)
		if err != nil {
			t.Fatal(err)
		}
		l = append(l, sid)
	}
	return l
}

func TestJudgeRefusesWhatOthersCanReach(t *testing.T) {
	t.Parallel()
	l := list(t)
	for sddl, want := range map[string]string{
		"O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1301bf;;;" + gmsa + ")":     "",
		"O:SYD:P(A;OICI;FA;;;SY)(A;OICI;0x1301bf;;;" + gmsa + ")":                     "",
		"O:" + gmsa + "D:P(A;;FA;;;SY)(A;;FA;;;BA)":                                   "",
		"O:" + self + "D:P(A;;FA;;;" + self + ")":                                     "",
		"O:BAD:P(A;;FA;;;SY)(A;OICIIO;GA;;;CO)":                                       "",
		"O:BAD:P(D;;FA;;;WD)(A;;FA;;;SY)":                                             "",
		"O:BAD:P(A;;FA;;;SY)(A;;RPWPCR;;;" + gmsa + ")":                               "",
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
		f, err := l.judge(sd, Read|Change, Read|Change)
		if err != nil {
			t.Errorf("%s: %v", sddl, err)
			continue
		}
		got := ""
		switch {
		case f == nil:
		case f.Owner:
			got = "owner"
		default:
			got = f.String()
		}
		if want == "" && got != "" || !strings.Contains(got, want) || strings.HasPrefix(got, `\`) {
			t.Errorf("%s: judged %q, want %q", sddl, got, want)
		}
	}
}

// A file without an access list is everybody's.
func TestJudgeRefusesNoListAtAll(t *testing.T) {
	t.Parallel()
	l := list(t)
	sd, err := windows.NewSecurityDescriptor()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sd.SetOwner(l[1], false), sd.SetDACL(nil, true, false)); err != nil {
		t.Fatal(err)
	}
	if f, err := l.judge(sd, Read, 0); err != nil || f == nil || f.String() != "everybody" {
		t.Errorf("judged %v, %v", f, err)
	}
}
