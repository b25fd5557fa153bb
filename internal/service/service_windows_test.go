package service

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

func TestAccounts(t *testing.T) {
	t.Parallel()
	host, err := windows.ComputerName()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		account                    string
		refused, password, managed bool
		domain                     bool
	}{
		{account: `NT SERVICE\sallyport-agent`},
		{account: `nt service\Sallyport-Agent`},
		{account: `NT SERVICE\other`, refused: true},
		{account: `NT AUTHORITY\NetworkService`},
		{account: `NT AUTHORITY\System`, refused: true},
		{account: "LocalSystem", refused: true},
		{account: "system", refused: true},
		{account: "bob", refused: true},
		{account: `CORP\a"b`, refused: true},
		{account: "CORP\\a\nb", refused: true},
		{account: `CORP\gmsa$`, managed: true, domain: true},
		{account: `CORP\svc-orders`, password: true, domain: true},
		{account: `svc-orders@corp.example`, password: true, domain: true},
		{account: `.\svc`, password: true},
		{account: strings.ToLower(host) + `\svc`, password: true},
	} {
		if err := checkAccount(c.account, "sallyport-agent"); (err != nil) != c.refused {
			t.Errorf("%s: %v, want refused %t", c.account, err, c.refused)
		} else if err != nil {
			continue
		}
		if hasPassword(c.account) != c.password || managed(c.account) != c.managed || ofDomain(c.account) != c.domain {
			t.Errorf("%s: password %t, managed %t, of a domain %t", c.account, hasPassword(c.account), managed(c.account), ofDomain(c.account))
		}
		if c.domain != (len(needs(c.account)) == 1) {
			t.Errorf("%s needs %v", c.account, needs(c.account))
		}
	}
	if !sameAccount(host+`\svc`, `.\SVC`) || sameAccount(`CORP\svc`, `.\svc`) {
		t.Error("names of one local account are two, or a domain's is this machine's")
	}
}

func TestAccountThatIsKept(t *testing.T) {
	t.Parallel()
	asked := 0
	spec := Spec{Name: "sallyport-agent", Password: func(context.Context, string) (string, error) { asked++; return "geheim", nil }}
	for _, c := range []struct {
		told, there, want, password string
		dry                         bool
	}{
		{want: `NT SERVICE\sallyport-agent`},
		{there: "LocalSystem", want: `NT SERVICE\sallyport-agent`},
		{there: `CORP\svc`, want: `CORP\svc`},
		{told: `CORP\gmsa$`, there: `CORP\svc`, want: `CORP\gmsa$`},
		{told: `CORP\svc`, there: `CORP\svc`, want: `CORP\svc`, password: "geheim"},
		{told: `CORP\svc`, dry: true, want: `CORP\svc`},
	} {
		s := spec
		s.Account = c.told
		var now *registered
		if c.there != "" {
			now = &registered{account: c.there}
		}
		got, err := withAccount(t.Context(), s, now, c.dry)
		if err != nil || got.Account != c.want || got.password != c.password {
			t.Errorf("told %q, there %q: %s with password %q, %v", c.told, c.there, got.Account, got.password, err)
		}
	}
	if asked != 1 {
		t.Errorf("asked for %d passwords, want 1", asked)
	}
	spec.Account, spec.Password = `CORP\svc`, func(context.Context, string) (string, error) { return "", nil }
	if _, err := withAccount(t.Context(), spec, nil, false); err == nil {
		t.Error("an empty password was taken")
	}
}

func TestCommandLineIsQuoted(t *testing.T) {
	t.Parallel()
	s := wanted{
		Spec: Spec{
			Arguments: []string{"service", "run"}, Config: `D:\a b\agent.yaml`, DefaultConfig: `C:\x.yaml`, State: `C:\s`, DefaultState: `C:\s`,
		},
		program: `C:\Sallyport\sallyport-agent.exe`,
	}
	if got, want := s.line(), `"C:\Sallyport\sallyport-agent.exe" service run --config "D:\a b\agent.yaml"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestErrorsAreExplained(t *testing.T) {
	t.Parallel()
	for code, want := range map[windows.Errno][]string{
		1069:       {"1069", "Test-ADServiceAccount", "password"},
		1326:       {"1326", "password is wrong"},
		1385:       {"1385", "Log on as a service"},
		0xC000015B: {"0xC000015B", "Log on as a service"},
		1053:       {"1053", "30 s"},
		1068:       {"1068", "Netlogon"},
		1072:       {"1072", "services.msc"},
		5:          {"5", "Run as administrator"},
		87:         {"87"},
	} {
		err := explain(code)
		for _, word := range want {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%d: %q does not say %q", code, err, word)
			}
		}
		if !errors.Is(err, code) {
			t.Errorf("%d: the error itself is lost", code)
		}
	}
	if explain(nil) != nil {
		t.Error("no error is explained")
	}
}

// serve runs a handler as the service manager would, up to its end.
func serve(run func(ctx context.Context, up func()) error) (requests chan svc.ChangeRequest, said chan svc.Status, end chan uint32) {
	requests, said, end = make(chan svc.ChangeRequest), make(chan svc.Status), make(chan uint32, 1)
	go func() {
		h := &handler{ctx: context.Background(), run: run}
		_, code := h.Execute(nil, requests, said)
		close(said)
		end <- code
	}()
	return requests, said, end
}

func TestStopDrains(t *testing.T) {
	t.Parallel()
	for _, command := range []svc.Cmd{svc.Stop, svc.Shutdown, svc.PreShutdown} {
		drained := make(chan struct{})
		requests, said, end := serve(func(ctx context.Context, up func()) error {
			up()
			<-ctx.Done()
			<-drained
			return nil
		})
		if s := <-said; s.State != svc.StartPending || s.WaitHint == 0 {
			t.Errorf("first it says %+v", s)
		}
		const all = svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown
		if s := <-said; s.State != svc.Running || s.Accepts != all {
			t.Errorf("then it says %+v", s)
		}
		requests <- svc.ChangeRequest{Cmd: svc.Interrogate, CurrentStatus: svc.Status{State: svc.Running}}
		if s := <-said; s.State != svc.Running {
			t.Errorf("asked, it says %+v", s)
		}
		requests <- svc.ChangeRequest{Cmd: command}
		first, second := <-said, <-said // the second after some time, so that it is not taken for hung
		if first.State != svc.StopPending || second.State != svc.StopPending || second.CheckPoint <= first.CheckPoint || second.WaitHint == 0 {
			t.Errorf("while it drains it says %+v and %+v", first, second)
		}
		close(drained)
		for range said {
		}
		if code := <-end; code != 0 {
			t.Errorf("it ended with %d", code)
		}
	}
}

func TestEndUntoldIsAFailure(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("the configuration is wrong")} {
		_, said, end := serve(func(context.Context, func()) error { return err })
		for s := range said {
			if s.State == svc.Running {
				t.Error("it was said to run")
			}
		}
		if code := <-end; code == 0 {
			t.Errorf("an end with %v looks like one in good order", err)
		}
	}
}
