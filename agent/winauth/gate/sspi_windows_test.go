package gate_test

import (
	"errors"
	"net/http"
	"testing"

	"sallyport/agent/winauth"
	"sallyport/agent/winauth/gate"
	"sallyport/agent/winauth/ntlm"
)

// lenient is a server that Wine's SSPI can satisfy as well: it sends no MIC. Windows' does, and passes the other tests too.
func lenient(schemes ...string) *gate.Gate {
	g := newGate(nil, ntlm.BindingOff, schemes...)
	g.Verifier.NoMIC = true
	return g
}

// The system signs on (SSPI), with each scheme; the proof is verified.
func TestSystemSignsOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		schemes  []string
		options  winauth.Options
		protocol string
	}{
		{"both offered", nil, winauth.Options{}, "negotiate/ntlm"},
		{"raw only", []string{"NTLM"}, winauth.Options{}, "ntlm"},
		{"Negotiate only, NTLM wanted", []string{"Negotiate"}, winauth.Options{Protocol: winauth.NTLM}, "negotiate/ntlm"},
		{"both offered, NTLM wanted", nil, winauth.Options{Protocol: winauth.NTLM}, "ntlm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, serve(t, lenient(c.schemes...), nil))
			text, protocol, err := conn.signOn(t, credential(t, c.options, password))
			if err != nil {
				t.Fatal(err)
			}
			if want := `CORP\Zoë true bound=false order`; text != want || protocol != c.protocol {
				t.Errorf("answer %q by %q, want %q by %q", text, protocol, want, c.protocol)
			}
			if _, again := conn.post(t, winauth.Token{}); again != text {
				t.Errorf("second request on the connection: %q", again)
			}
		})
	}
}

func TestSystemIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, lenient(), nil)
	conn := dial(t, s)
	_, _, err := conn.signOn(t, credential(t, winauth.Options{}, "wrong"))
	if e, ok := errors.AsType[*winauth.Error](err); !ok || e.Kind != winauth.Rejected {
		t.Fatalf("wrong password: %v", err)
	}
	if resp, text := conn.post(t, winauth.Token{}); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the connection is let in after a refusal: %d %s", resp.StatusCode, text)
	}
	// NTLM is not what a credential for Kerberos alone may use.
	_, _, err = dial(t, serve(t, lenient(), nil)).signOn(t, credential(t, winauth.Options{Protocol: winauth.Kerberos}, password))
	if _, ok := errors.AsType[*winauth.Error](err); !ok {
		t.Errorf("Kerberos alone, where there is none: %v", err)
	}
}
