package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"

	"sallyport/internal/service"
)

func TestServiceOfTheMachine(t *testing.T) {
	t.Parallel()
	running := service.Status{Installed: true, Automatic: true, State: service.Running, Account: `NT SERVICE\sallyport-agent`}
	with := func(change func(*service.Status)) service.Status { s := running; change(&s); return s }
	for _, c := range []struct {
		status service.Status
		err    error
		want   Status
		says   string
	}{
		{running, nil, OK, `running as NT SERVICE\sallyport-agent`},
		{service.Status{State: service.NotInstalled}, nil, Skip, "service install"},
		{service.Status{}, errors.New("systemd does not run here"), Skip, "systemd"},
		{with(func(s *service.Status) { s.State, s.Detail = service.Failed, "1069: the password" }), nil, Fail, "1069: the password"},
		{with(func(s *service.Status) { s.State = service.Stopped }), nil, Warn, "stopped"},
		{with(func(s *service.Status) { s.State, s.Detail = service.Stopped, "it waits for its configuration" }), nil, Warn, "waits"},
		{with(func(s *service.Status) { s.Automatic = false }), nil, Warn, "does not start with the machine"},
	} {
		p := patient{whole: true, o: Options{Service: func(context.Context) (service.Status, error) { return c.status, c.err }}}
		f, there := p.service(t.Context())
		if !there || f.Status != c.want || !strings.Contains(f.Found, c.says) {
			t.Errorf("%+v: %+v, want %s with %q", c.status, f, c.want, c.says)
		}
		if (f.Do == "") != (f.Status == OK || f.Status == Skip) {
			t.Errorf("%+v: what to do is %q", c.status, f.Do)
		}
	}
	waits := with(func(s *service.Status) { s.State = service.Stopped })
	if f := judgeService(Finding{}, waits, false); !strings.Contains(f.Do, "sallyport-agent join") {
		t.Errorf("without a configuration it is to be started all the same: %s", f.Do)
	}
	if _, there := new(patient).service(t.Context()); there {
		t.Error("there is a finding about a service that nobody asked about")
	}
}
