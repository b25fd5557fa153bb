package ntlm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The values of MS-NLMP section 4.2: user "User", domain "Domain", password "Password", server "Server".
var ( // read only
	vectorServer = [8]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}
	vectorClient = [8]byte{0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa}
	vectorInfo   = Pairs{{AvNbDomainName, encodeUTF16("Domain")}, {AvNbComputerName, encodeUTF16("Server")}}
)

func wantBytes(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if !bytes.Equal(got, unhex(t, want)) {
		t.Errorf("%s = %x, want %s", what, got, want)
	}
}

func TestVectors(t *testing.T) {
	t.Parallel()
	h := HashOf("Password")
	wantBytes(t, "NTOWFv1", h[:], "a4f49c406510bdcab6824ee7c30fd852")
	key := responseKey(h, "User", "Domain")
	wantBytes(t, "NTOWFv2", key, "0c868a403bfd7a93a3001ef22ef02e3f")
	response, base := ntResponse(key, vectorServer, vectorClient, 0, vectorInfo)
	wantBytes(t, "SessionBaseKey", base, "8de40ccadbc14a82f15cb0ad0de95ca3")
	wantBytes(t, "NTProofStr", response[:16], "68cd0ab851e51c96aabc927bebef6a1c")
	wantBytes(t, "temp", response[16:], `0101000000000000 0000000000000000 aaaaaaaaaaaaaaaa 00000000
		02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000 00000000`)
	wantBytes(t, "LMv2", lmv2Response(key, vectorServer, vectorClient), "86c35097ac9cec102554764a57cccc19 aaaaaaaaaaaaaaaa")
	session := bytes.Repeat([]byte{0x55}, 16)
	wantBytes(t, "encrypted session key", rc4Once(base, session), "c5dad2544fc9799094ce1ce90bc9d03e")
}

// TestSigning is section 4.2.4.4: the signature of "Plaintext". The specification encrypts the text before it makes the
// checksum's cipher go on, so the cipher is moved by the 18 bytes of the text first.
func TestSigning(t *testing.T) {
	t.Parallel()
	flags := FlagKeyExchange | FlagSign | FlagSeal | FlagExtended | Flag128 | Flag56
	s := newSigner(bytes.Repeat([]byte{0x55}, 16), flags, clientSigning, clientSealing)
	wantBytes(t, "signing key", s.key, "4788dc861b4782f35d43fd98fe1a2d39")
	text := encodeUTF16("Plaintext")
	sealed := make([]byte, len(text))
	s.handle.XORKeyStream(sealed, text)
	wantBytes(t, "sealed text", sealed, "54e50165bf1936dc996020c1811b0f06fb5f")
	wantBytes(t, "signature", s.sign(text), "01000000 7fb38ec5c55d4976 00000000")
}

func TestVectorChallenge(t *testing.T) {
	t.Parallel()
	c, err := ParseChallenge(unhex(t, challengeVector))
	if err != nil {
		t.Fatal(err)
	}
	if c.TargetName != "Server" || c.Nonce != vectorServer || c.TargetInfo.Text(AvNbDomainName) != "Domain" ||
		c.TargetInfo.Text(AvNbComputerName) != "Server" {
		t.Errorf("challenge %+v", c)
	}
}

// challengeVector is the CHALLENGE message of section 4.2.4.3.
const challengeVector = `4e544c4d53535000 02000000 0c000c0038000000 33828ae2 0123456789abcdef 0000000000000000
	2400240044000000 06007017 0000000f 53006500720076006500720 0
	02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000`

func verifier() *Verifier {
	return &Verifier{
		Computer: "API", Domain: "CORP", Realm: "corp.example", Host: "api.corp.example",
		Lookup: func(user, domain string) (Hash, bool) {
			return HashOf("Zo€-Pässw0rd1"), strings.EqualFold(user, "zoë") && domain == "CORP"
		},
	}
}

func account() Account {
	return Account{User: "zoë", Domain: "CORP", Hash: HashOf("Zo€-Pässw0rd1")}
}

func TestSignOn(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		name     string
		account  Account
		spn      string
		policy   BindingPolicy
		mine     []byte
		theirs   []byte
		verifier func(*Verifier)
		spoil    func(authenticate []byte)
		want     error
		bound    bool
	}{
		{name: "right", account: account(), spn: "HTTP/api"},
		{name: "wrong password", account: Account{User: "zoë", Domain: "CORP", Hash: HashOf("x")}, want: ErrBadProof},
		{name: "unknown user", account: Account{User: "bob", Domain: "CORP", Hash: HashOf("x")}, want: ErrUnknownUser},
		{name: "anonymous", account: Account{}, want: ErrAnonymous},
		{name: "bound", account: account(), policy: BindingRequire, mine: []byte("a"), theirs: []byte("a"), bound: true},
		{name: "bound elsewhere", account: account(), policy: BindingAllow, mine: []byte("a"), theirs: []byte("b"), want: ErrBadBinding},
		{name: "binding without TLS there", account: account(), policy: BindingAllow, mine: []byte("a"), want: ErrBadBinding},
		{name: "unbound, required", account: account(), policy: BindingRequire, theirs: []byte("b"), want: ErrBadBinding},
		{name: "unbound, allowed", account: account(), policy: BindingAllow, theirs: []byte("b")},
		{name: "MIC spoiled", account: account(), spoil: func(b []byte) { b[72]++ }, want: ErrBadMIC},
		{name: "flags changed", account: account(), spoil: func(b []byte) { b[60] ^= byte(FlagSign) }, want: ErrBadMIC},
		{name: "proof spoiled", account: account(), spoil: func(b []byte) {
			b[binary.LittleEndian.Uint32(b[24:])]++
		}, want: ErrBadProof},
		{name: "target info spoiled", account: account(), spoil: func(b []byte) {
			b[binary.LittleEndian.Uint32(b[24:])+50]++
		}, want: ErrBadProof},
		{name: "NTLMv1 response", account: account(), spoil: func(b []byte) {
			binary.LittleEndian.PutUint16(b[20:], 24)
		}, want: ErrNotV2},
		{name: "for another service", account: account(), spn: "HTTP/other", verifier: func(v *Verifier) { v.SPN = "HTTP/api" }, want: ErrBadTarget},
		{name: "for this service", account: account(), spn: "http/API", verifier: func(v *Verifier) { v.SPN = "HTTP/api" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := verifier()
			v.Binding = c.policy
			if c.verifier != nil {
				c.verifier(v)
			}
			cl := NewClient(c.account, c.spn, c.mine, func() time.Time { return now })
			session, challenge, err := v.Challenge(cl.Negotiate(), c.theirs)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := cl.Authenticate(challenge)
			if err != nil {
				t.Fatal(err)
			}
			if c.spoil != nil {
				c.spoil(answer)
			}
			id, err := session.Verify(answer)
			if !errors.Is(err, c.want) || (c.want == nil && err != nil) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if _, again := session.Verify(answer); again == nil {
				t.Error("one challenge verifies twice")
			}
			if c.want != nil {
				return
			}
			if id.User != "zoë" || id.Bound != c.bound || id.TargetName != c.spn {
				t.Errorf("identity %+v", id)
			}
			if !session.CheckSignature([]byte("list"), cl.Sign([]byte("list"))) || !cl.Verify([]byte("list"), session.Sign([]byte("list"))) {
				t.Error("signatures do not fit")
			}
			if cl.Verify([]byte("other"), session.Sign([]byte("list"))) {
				t.Error("a signature of another text is taken")
			}
		})
	}
}

func TestStale(t *testing.T) {
	t.Parallel()
	v := verifier()
	cl := NewClient(account(), "", nil, nil)
	session, challenge, err := v.Challenge(cl.Negotiate(), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := cl.Authenticate(challenge)
	if err != nil {
		t.Fatal(err)
	}
	v.Clock = func() time.Time { return time.Now().Add(time.Hour) }
	if _, err := session.Verify(answer); !errors.Is(err, ErrStale) {
		t.Errorf("error %v, want %v", err, ErrStale)
	}
}

// TestWeakServers: an acceptor that has only OEM code pages, NTLMv1 or no target info gets no response at all.
func TestWeakServers(t *testing.T) {
	t.Parallel()
	good := Challenge{Flags: wanted, TargetName: "CORP", TargetInfo: vectorInfo}
	for name, change := range map[string]func(*Challenge){
		"OEM":            func(c *Challenge) { c.Flags &^= FlagUnicode },
		"NTLMv1":         func(c *Challenge) { c.Flags &^= FlagExtended },
		"no target info": func(c *Challenge) { c.TargetInfo = nil },
	} {
		ch := good
		change(&ch)
		cl := NewClient(account(), "", nil, nil)
		cl.Negotiate()
		if _, err := cl.Authenticate(ch.Marshal()); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
	cl := NewClient(account(), "", nil, nil)
	if n := len(cl.Negotiate()); n != 40 {
		t.Errorf("type 1 has %d bytes, want 40", n)
	}
	answer, err := cl.Authenticate(good.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	a, err := ParseAuthenticate(answer)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.LMResponse) != 24 || !a.HasMIC || a.User != "zoë" {
		t.Errorf("answer to a challenge without time: %+v", a)
	}
}

func TestHashIsSecret(t *testing.T) {
	t.Parallel()
	h := HashOf("secret")
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(f, account()); strings.Contains(got, hex.EncodeToString(h[:4])) {
			t.Errorf("%s shows the hash: %s", f, got)
		}
	}
	if got := fmt.Sprintf("%v %+v %s", h, Account{Hash: h}, h); strings.Contains(got, hex.EncodeToString(h[:2])) || !strings.Contains(got, "***") {
		t.Errorf("shown as %q", got)
	}
}

func FuzzParse(f *testing.F) {
	cl := NewClient(account(), "HTTP/api", []byte("binding"), nil)
	_, challenge, err := verifier().Challenge(cl.Negotiate(), nil)
	if err != nil {
		f.Fatal(err)
	}
	answer, err := cl.Authenticate(challenge)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cl.Negotiate())
	f.Add(challenge)
	f.Add(answer)
	f.Add(unhex(f, challengeVector))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ParseNegotiate(b)
		if c, err := ParseChallenge(b); err == nil {
			again, err := ParseChallenge(c.Marshal())
			if err != nil || again.Nonce != c.Nonce || len(again.TargetInfo) != len(c.TargetInfo) {
				t.Errorf("challenge changes: %+v, %+v, %v", c, again, err)
			}
		}
		_, _ = ParseAuthenticate(b)
		cl := NewClient(account(), "", nil, nil)
		cl.Negotiate()
		_, _ = cl.Authenticate(b)
	})
}

// FuzzVerify: whatever comes, only the right proof is let in.
func FuzzVerify(f *testing.F) {
	f.Add([]byte{0}, uint16(72))
	f.Add([]byte{1, 2, 3}, uint16(120))
	f.Fuzz(func(t *testing.T, change []byte, at uint16) {
		cl := NewClient(account(), "HTTP/api", nil, nil)
		session, challenge, err := verifier().Challenge(cl.Negotiate(), nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := cl.Authenticate(challenge)
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(answer)
		if int(at) < len(answer) {
			copy(answer[at:], change)
		}
		_, err = session.Verify(answer)
		if same := bytes.Equal(before, answer); same != (err == nil) {
			t.Errorf("changed %v, error %v", !same, err)
		}
	})
}
