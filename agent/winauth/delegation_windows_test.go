package winauth

import (
	"errors"
	"os/user"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// ownSession is a session of the account that runs the test: an impersonation token of the process's own.
func ownSession(t *testing.T) *session {
	t.Helper()
	var own, token windows.Token
	if err := windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_DUPLICATE|windows.TOKEN_QUERY, &own); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close() }()
	err := windows.DuplicateTokenEx(own, windows.TOKEN_QUERY|windows.TOKEN_IMPERSONATE|windows.TOKEN_DUPLICATE, nil,
		windows.SecurityImpersonation, windows.TokenImpersonation, &token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = token.Close() })
	return &session{token: token}
}

// TestSession: a session says whose it is, what runs in it runs there, and nothing after it does.
func TestSession(t *testing.T) {
	t.Parallel()
	s := ownSession(t)
	if err := s.read(); err != nil {
		t.Fatal(err)
	}
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if s.sid != u.Uid || !strings.EqualFold(s.name.identity(), u.Username) {
		t.Errorf("%s, %s: want %s, %s", s.sid, s.name.identity(), u.Uid, u.Username)
	}
	if len(s.groups) == 0 || !slices.IsSorted(s.groups) || !slices.Contains(s.groups, "S-1-1-0") {
		t.Errorf("groups %v", s.groups)
	}
	inside := func() error {
		var token windows.Token
		err := windows.OpenThreadToken(windows.CurrentThread(), windows.TOKEN_QUERY, true, &token)
		if err == nil {
			_ = token.Close()
		}
		return err
	}
	for range 20 {
		if err := s.run(inside); err != nil {
			t.Fatalf("in the session: %v", err)
		}
		if err := (*session)(nil).run(inside); !errors.Is(err, windows.ERROR_NO_TOKEN) {
			t.Fatalf("after it: %v", err)
		}
	}
	if err := s.run(func() error { return windows.ERROR_BUSY }); !errors.Is(err, windows.ERROR_BUSY) {
		t.Errorf("the error is lost: %v", err)
	}
}

func TestRights(t *testing.T) {
	t.Parallel()
	if missing, err := missingRights("SeChangeNotifyPrivilege"); err != nil || len(missing) > 0 { // everybody has it
		t.Errorf("%v, %v", missing, err)
	}
	if missing, err := missingRights(tcbRight, "SeChangeNotifyPrivilege"); err != nil || slices.Contains(missing, "SeChangeNotifyPrivilege") {
		t.Errorf("%v, %v", missing, err)
	}
	if _, err := missingRights("SeNoSuchPrivilege"); err == nil {
		t.Error("a right that there is not")
	}
}

// TestNobodyWithoutDomain: on a machine without a domain nobody is acted for, and the error says what is missing.
func TestNobodyWithoutDomain(t *testing.T) {
	t.Parallel()
	d, err := NewDelegation(Options{}, DelegationConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(d.Way(), "Windows") || d.String() == "" {
		t.Errorf("%s by %s", d, d.Way())
	}
	if joined() != "" {
		t.Logf("this machine is in the domain %s, where anna may be somebody", joined())
		return
	}
	if err := d.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "no domain") {
		t.Errorf("ready: %v", err)
	}
	for _, p := range []Person{{UPN: "anna@nowhere.example"}, {SID: "S-1-5-21-1-2-3-1104"}, {SID: "S-1-5-21-1-2-3-1104", UPN: "anna@nowhere.example"}} {
		c, err := d.For(t.Context(), p)
		if c != nil || err == nil {
			t.Fatalf("%+v: %v, %v", p, c, err)
		}
		t.Log(err)
	}
}

// TestNoSessionOfNobody: whatever Windows answers to the question for a session, it is an error or a session that can be read.
func TestNoSessionOfNobody(t *testing.T) {
	t.Parallel()
	h, err := registerLogon()
	if err != nil {
		t.Log(err) // who runs this is no part of the operating system
		return
	}
	defer h.close()
	for _, name := range []string{"anna@nowhere.example", "", strings.Repeat("a", maxLogonName+1), "a\x00b"} {
		if s, err := h.s4u(name, ""); err == nil {
			t.Errorf("%.20q has a session, of %s", name, s.sid)
		} else {
			t.Log(err)
		}
	}
}

// TestKeysChooseTheWay: with a keytab or a password the agent's own Kerberos acts, on Windows too.
func TestKeysChooseTheWay(t *testing.T) {
	t.Parallel()
	d, err := NewDelegation(Options{Krb5Text: deadRealm}, DelegationConfig{Account: Account{
		User: "svc-gw@corp.example", Password: func() (string, error) { return testPassword, nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(d.Way(), "own Kerberos") {
		t.Errorf("%s by %s", d, d.Way())
	}
}
