package service

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSettingsOfAService(t *testing.T) {
	t.Parallel()
	got, there := settingsOf("User=svc-orders\nGroup=\nEnvironment=A=1 \"B=2 3\"\nEnvironmentFiles=/etc/default/a b (ignore_errors=yes)\n" +
		"EnvironmentFiles=/etc/must (ignore_errors=no)\nLimitNOFILE=65536\nLoadState=loaded\n")
	want := []string{
		"--quiet", "--pipe", "--wait", "--collect", "--service-type=exec", "--property=User=svc-orders", `--property=Environment=A=1 "B=2 3"`,
		"--property=EnvironmentFile=-/etc/default/a b", "--property=EnvironmentFile=/etc/must", "--property=LimitNOFILE=65536",
	}
	if diff := cmp.Diff(want, got); diff != "" || !there {
		t.Errorf("there: %t\n%s", there, diff)
	}
	if _, there := settingsOf("LoadState=not-found\n"); there {
		t.Error("a unit that is not there is there")
	}
}
