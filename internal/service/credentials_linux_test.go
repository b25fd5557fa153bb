package service

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCredentialsOfAService(t *testing.T) {
	t.Parallel()
	got, err := credentialsOf(`{"type":"a(ss)","data":[["erp","/etc/sallyport/erp"],["crm","crm"]]}
{"type":"a(ss)","data":[["stock","/etc/sallyport/stock.cred"]]}
`)
	want := []string{
		"--property=LoadCredential=erp:/etc/sallyport/erp", "--property=LoadCredential=crm:crm",
		"--property=LoadCredentialEncrypted=stock:/etc/sallyport/stock.cred",
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if got, err := credentialsOf(`{"type":"a(ss)","data":[]}` + "\n"); err == nil {
		t.Errorf("half an answer gives %q", got)
	}
	const path = "/org/freedesktop/systemd1/unit/sallyport_2dagent_2eservice"
	if got := unitObject("sallyport-agent.service"); got != path {
		t.Errorf("the unit is %s, want %s", got, path)
	}
}
