package spnego

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInitRoundTrip(t *testing.T) {
	t.Parallel()
	for _, in := range []Init{
		{Mechs: []Mech{NTLM}, Token: []byte("NTLMSSP\x00")},
		{Mechs: []Mech{Kerberos, MSKerberos, NTLM}, Token: bytes.Repeat([]byte{7}, 70_000)},
		{Mechs: []Mech{Kerberos, NTLM}, MIC: []byte("mic")},
	} {
		b, err := in.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !IsInit(b) || IsResp(b) {
			t.Error("not taken for a NegTokenInit")
		}
		got, err := ParseInit(b)
		if err != nil {
			t.Fatal(err)
		}
		in.RawMechs, err = MechList(in.Mechs)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(in, got); d != "" {
			t.Error(d)
		}
	}
}

func TestRespRoundTrip(t *testing.T) {
	t.Parallel()
	for _, in := range []Resp{
		{State: Accepted, Mech: MSKerberos, Token: []byte("token"), MIC: []byte("mic")},
		{State: RequestMIC, Mech: NTLM},
		{State: Absent, Token: []byte("token")},
		{State: Rejected},
	} {
		b, err := in.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseResp(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(in, got); d != "" {
			t.Error(d)
		}
	}
}

// TestHints reads the NegTokenInit2 of MS-SPNG, as a Windows acceptor would send it.
func TestHints(t *testing.T) {
	t.Parallel()
	hints := []byte{0xa3, 0x04, 0x30, 0x02, 0xa0, 0x00}
	mech := []byte{0xa0, 0x0e, 0x30, 0x0c, 0x06, 0x0a, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 10}
	seq := append([]byte{0x30, byte(len(mech) + len(hints))}, append(mech, hints...)...)
	inner := append([]byte{6, 6, 0x2b, 6, 1, 5, 5, 2, 0xa0, byte(len(seq))}, seq...)
	got, err := ParseInit(append([]byte{0x60, byte(len(inner))}, inner...))
	if err != nil || len(got.Mechs) != 1 || got.Mechs[0] != NTLM || got.MIC != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	good, err := Resp{State: Incomplete, Mech: NTLM, Token: []byte("token")}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := ParseResp(good[:n]); err == nil {
			t.Errorf("cut to %d bytes, it is still read", n)
		}
	}
	if _, err := ParseResp(append(good, 0)); err == nil {
		t.Error("a byte too many is passed over")
	}
	if _, err := ParseResp([]byte{0xa1, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30}); err == nil {
		t.Error("an absurd length is taken")
	}
	if _, err := Frame("1.x", nil); err == nil {
		t.Error("a bad object identifier is written")
	}
}

func FuzzParse(f *testing.F) {
	for _, t := range []Init{{Mechs: []Mech{Kerberos, NTLM}, Token: []byte("x"), MIC: []byte("y")}, {Mechs: []Mech{NTLM}}} {
		b, err := t.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, err := Resp{State: Incomplete, Mech: Kerberos, Token: []byte("x"), MIC: []byte("y")}.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := ParseInit(b); err == nil {
			if _, err := v.Marshal(); err != nil {
				t.Errorf("read but not written: %v", err)
			}
		}
		if v, err := ParseResp(b); err == nil {
			again, err := v.Marshal()
			if err != nil {
				t.Fatalf("read but not written: %v", err)
			}
			if !bytes.Equal(again, b) {
				w, err := ParseResp(again)
				if err != nil || !cmp.Equal(v, w) {
					t.Errorf("changes: %+v, %+v, %v", v, w, err)
				}
			}
		}
		_, _, _ = Unframe(b)
	})
}
