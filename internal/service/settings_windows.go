package service

import (
	"errors"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc/mgr"
)

// What is done after a failure: the third holds for all that follow, and an hour without one counts as health.
const resetPeriod = time.Hour

func recovery() []mgr.RecoveryAction {
	return []mgr.RecoveryAction{
		{Type: mgr.ServiceRestart, Delay: 5 * time.Second},
		{Type: mgr.ServiceRestart, Delay: 5 * time.Second},
		{Type: mgr.ServiceRestart, Delay: 15 * time.Second},
	}
}

// A setting is one more thing that the manager keeps of a service. Older systems, and Wine, do not know them all.
type setting struct {
	same func() (bool, error)
	set  func() error
}

func (r *registered) settings(s Spec) []setting {
	number := func(level uint32, want uint32) setting {
		return setting{
			func() (bool, error) {
				var got [1]uint32
				var needed uint32
				err := windows.QueryServiceConfig2(r.Handle, level, (*byte)(unsafe.Pointer(&got)), uint32(unsafe.Sizeof(got)), &needed)
				return got[0] == want, err
			},
			func() error { return windows.ChangeServiceConfig2(r.Handle, level, (*byte)(unsafe.Pointer(&want))) },
		}
	}
	return []setting{
		{
			func() (bool, error) {
				actions, err := r.RecoveryActions()
				if err != nil {
					return false, err
				}
				period, err := r.ResetPeriod()
				return slices.Equal(actions, recovery()) && period == uint32(resetPeriod/time.Second), err
			},
			func() error { return r.SetRecoveryActions(recovery(), uint32(resetPeriod/time.Second)) },
		},
		{ // an end with an error is a failure too, not only one without a word
			r.RecoveryActionsOnNonCrashFailures,
			func() error { return r.SetRecoveryActionsOnNonCrashFailures(true) },
		},
		number(windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, uint32(s.Stop/time.Millisecond)),
		number(windows.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, 0),
		// NT SERVICE\ and the name is in the token of the service whatever it runs as, and so may use the folder.
		number(windows.SERVICE_CONFIG_SERVICE_SID_INFO, windows.SERVICE_SID_TYPE_UNRESTRICTED),
	}
}

// settled says whether all that can be asked is as it is to be.
func (r *registered) settled(s Spec) bool {
	for _, one := range r.settings(s) {
		if same, err := one.same(); err == nil && !same {
			return false
		}
	}
	return true
}

func (r *registered) settle(s Spec) error {
	for _, one := range r.settings(s) {
		if err := one.set(); err != nil && !errors.Is(err, windows.ERROR_INVALID_LEVEL) {
			return explain(err)
		}
	}
	return nil
}
