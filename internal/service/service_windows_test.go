package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"

	"sallyport/internal/eventlog"
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

// An order is carried out beside the rest, one at a time, and is waited for when the service stops.
func TestErrandOfAServiceThatRuns(t *testing.T) {
	t.Parallel()
	begun, end := make(chan struct{}, 10), make(chan struct{})
	h := &handler{
		ctx: context.Background(),
		run: func(ctx context.Context, up func()) error { up(); <-ctx.Done(); return nil },
		errand: func(ctx context.Context) {
			begun <- struct{}{}
			<-ctx.Done()
			<-end
		},
	}
	requests, said, ended := make(chan svc.ChangeRequest), make(chan svc.Status, 100), make(chan uint32, 1)
	go func() { _, code := h.Execute([]string{"sallyport-agent"}, requests, said); ended <- code }()
	for s := range said {
		if s.State == svc.Running {
			break
		}
	}
	requests <- svc.ChangeRequest{Cmd: errandControl}
	<-begun
	requests <- svc.ChangeRequest{Cmd: errandControl} // while the first is under way
	requests <- svc.ChangeRequest{Cmd: svc.Stop}
	select {
	case code := <-ended:
		t.Fatalf("it ended with %d before its errand had", code)
	case <-time.After(200 * time.Millisecond):
	}
	close(end)
	if code := <-ended; code != 0 {
		t.Errorf("it ended with %d", code)
	}
	if len(begun) != 0 {
		t.Error("two errands were under way")
	}
}

// A service that is started for an errand alone never runs the agent, is never taken for running, and ends as it was before.
func TestErrandOfAServiceThatIsStopped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want uint32
	}{
		{[]string{"sallyport-agent", errandStart}, 0},
		{[]string{"sallyport-agent", errandStart, errandAgain}, 1},
	} {
		did := 0
		h := &handler{
			ctx:    context.Background(),
			run:    func(context.Context, func()) error { t.Error("the agent was run"); return nil },
			errand: func(context.Context) { did++ },
		}
		said := make(chan svc.Status, 10)
		_, code := h.Execute(c.args, make(chan svc.ChangeRequest), said)
		close(said)
		for s := range said {
			if s.State == svc.Running {
				t.Error("it was said to run")
			}
		}
		if code != c.want || did != 1 {
			t.Errorf("%q: %d errands, and it ended with %d, want %d", c.args, did, code, c.want)
		}
	}
}

// What the service is told goes there and back by the folder, for which it trusts administrators and itself alone.
func TestErrandInItsFolder(t *testing.T) {
	t.Parallel()
	s := Spec{Name: "sallyport-agent", State: t.TempDir()}
	if err := ServeErrand(t.Context(), s, nil); err == nil {
		t.Error("an order that is not there was carried out")
	}
	dir, err := makeErrand(s, `NT SERVICE\sallyport-agent`, []string{"check", "--json"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := makeErrand(s, `NT SERVICE\sallyport-agent`, nil); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second order beside the first: %v", err)
	}
	err = ServeErrand(t.Context(), s, func(_ context.Context, args []string, out, complaints io.Writer) int {
		fmt.Fprint(out, args)
		fmt.Fprint(complaints, "ä\xff")
		return 3
	})
	var got result
	if err := errors.Join(err, readJSON(filepath.Join(dir, resultFile), &got)); err != nil {
		t.Fatal(err)
	}
	if got.Code != 3 || string(got.Out) != "[check --json]" || string(got.Complaints) != "ä\xff" {
		t.Errorf("%+v", got)
	}
	if err := removeErrand(dir); err != nil {
		t.Error(err)
	}
	old := time.Now().Add(-2 * errandLimit)
	if dir, err = makeErrand(s, "CORP\\not-there", nil); err == nil {
		err = os.Chtimes(dir, old, old)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err = makeErrand(s, `NT SERVICE\sallyport-agent`, nil); err != nil {
		t.Errorf("one that was cut off keeps the next away: %v", err)
	}
}

// Error 1069 keeps to itself why an account could not log on; the service manager's events say it.
func TestReasonOfAFailedLogon(t *testing.T) {
	t.Parallel()
	s := Spec{Name: "sallyport-agent", Display: "Sallyport agent"}
	for _, c := range []struct {
		event eventlog.Past
		want  windows.Errno
	}{
		{eventlog.Past{ID: 7038, Data: []string{"sallyport-agent", `CORP\svc`, "%%1326"}}, 1326},
		{eventlog.Past{ID: 7041, Data: []string{"Sallyport agent", `CORP\svc`}}, 1385},
		{eventlog.Past{ID: 7038, Data: []string{"other", `CORP\svc`, "%%1326"}}, 0},
		{eventlog.Past{ID: 7038, Data: []string{"sallyport-agent", `CORP\svc`, "Anmeldefehler"}}, 0},
		{eventlog.Past{ID: 7036, Data: []string{"Sallyport agent", "stopped"}}, 0},
	} {
		if got := logonCode(c.event, s); got != c.want {
			t.Errorf("%v: %d, want %d", c.event, got, c.want)
		}
	}
}
