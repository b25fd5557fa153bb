package tunnel

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func linkClaim() Claim {
	return Claim{Kind: KindLink, Gateway: "plant1", Agent: "a-1", Instance: "i1", Slot: 1, Generation: 7}
}

type greeted struct {
	claim Claim
	err   error
}

// greet runs the relay's side against whatever the test does with the agent's end.
func greet(t *testing.T, key ed25519.PrivateKey, verify func(context.Context, Claim) (Welcome, error)) (*websocket.Conn, <-chan greeted) {
	rws, aws := sockets(t)
	t.Cleanup(func() { _ = aws.Close() })
	out := make(chan greeted, 1)
	go func() {
		c, _, err := Greet(context.Background(), rws, RelayIdentity{Key: key, Node: "n1", Nodes: 2, Version: "1.0.0"}, verify)
		out <- greeted{c, err}
	}()
	return aws, out
}

func yes(_ context.Context, c Claim) (Welcome, error) { return Welcome{Agent: c.Agent}, nil }

func TestHandshakeProvesBothSides(t *testing.T) {
	relayKey, agentKey := newKey(t), newKey(t)
	ws, out := greet(t, relayKey, yes)
	w, err := Introduce(context.Background(), ws, AgentIdentity{Claim: linkClaim(), Key: agentKey}, Fingerprint(relayKey.Public().(ed25519.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	w.Bond = nil // bond_test.go
	if !reflect.DeepEqual(w, Welcome{Agent: "a-1", Node: "n1", Nodes: 2, Version: "1.0.0"}) {
		t.Errorf("welcome: %+v", w)
	}
	got := <-out
	if got.err != nil || string(got.claim.Key) != string(agentKey.Public().(ed25519.PublicKey)) || got.claim.Generation != 7 {
		t.Errorf("claim: %+v, %v", got.claim, got.err)
	}
}

func TestAgentSaysNothingToAnotherRelay(t *testing.T) {
	ws, out := greet(t, newKey(t), yes)
	_, err := Introduce(context.Background(), ws, AgentIdentity{Claim: linkClaim(), Key: newKey(t)}, Fingerprint(newKey(t).Public().(ed25519.PublicKey)))
	if !errors.Is(err, ErrRelayKey) {
		t.Errorf("the agent got %v", err)
	}
	if got := <-out; got.err == nil {
		t.Error("the relay was content")
	}
}

func TestRefusalReachesTheAgent(t *testing.T) {
	relayKey := newKey(t)
	ws, out := greet(t, relayKey, func(context.Context, Claim) (Welcome, error) {
		return Welcome{}, &Refusal{Code: "revoked", Reason: "the agent was revoked", Permanent: true, RetryAfter: time.Minute}
	})
	_, err := Introduce(context.Background(), ws, AgentIdentity{Claim: linkClaim(), Key: newKey(t)}, Fingerprint(relayKey.Public().(ed25519.PublicKey)))
	if r, ok := errors.AsType[*Refusal](err); !ok || r.Code != "revoked" || !r.Permanent || r.RetryAfter != time.Minute {
		t.Errorf("the agent got %v", err)
	}
	if r, ok := errors.AsType[*Refusal]((<-out).err); !ok || r.Code != "revoked" {
		t.Error("the relay's caller was not told")
	}
}

func TestJoinProvesTheCodeWithoutSendingIt(t *testing.T) {
	relayKey, code := newKey(t), NewCode()
	want := JoinKey(code).Public().(ed25519.PublicKey)
	verify := func(_ context.Context, c Claim) (Welcome, error) {
		if !want.Equal(ed25519.PublicKey(c.CodeKey)) {
			return Welcome{}, &Refusal{Code: "unknown-code", Reason: "no such code", Permanent: true}
		}
		return Welcome{Agent: "a-9"}, nil
	}
	claim := Claim{Kind: KindJoin, Gateway: "plant1"}
	pinned := Fingerprint(relayKey.Public().(ed25519.PublicKey))
	ws, _ := greet(t, relayKey, verify)
	if w, err := Introduce(context.Background(), ws, AgentIdentity{Claim: claim, Key: newKey(t), CodeKey: JoinKey(strings.ToLower(code))}, pinned); err != nil || w.Agent != "a-9" {
		t.Errorf("right code: %+v, %v", w, err)
	}
	ws, _ = greet(t, relayKey, verify)
	if _, err := Introduce(context.Background(), ws, AgentIdentity{Claim: claim, Key: newKey(t), CodeKey: JoinKey("WRONG")}, pinned); err == nil {
		t.Error("a wrong code was accepted")
	}
}

// A liar holds one key and claims another, or another's code key, or changes the claim after signing.
func TestLiarsAreRefused(t *testing.T) {
	relayKey := newKey(t)
	pinnedKey := relayKey.Public().(ed25519.PublicKey)
	lies := map[string]func(c *Claim, env *envelope, before []byte){
		"another's key": func(c *Claim, env *envelope, _ []byte) {
			c.Key = newKey(t).Public().(ed25519.PublicKey)
			env.Body, _ = json.Marshal(c)
		},
		"claim changed after signing": func(c *Claim, env *envelope, _ []byte) {
			c.Gateway = "plant2"
			env.Body, _ = json.Marshal(c)
		},
		"no signature":  func(_ *Claim, env *envelope, _ []byte) { env.Sig = nil },
		"unknown kind":  func(c *Claim, env *envelope, _ []byte) { c.Kind = "admin"; env.Body, _ = json.Marshal(c) },
		"unknown alg":   func(c *Claim, env *envelope, _ []byte) { c.Alg = "none"; env.Body, _ = json.Marshal(c) },
		"short key":     func(c *Claim, env *envelope, _ []byte) { c.Key = c.Key[:5]; env.Body, _ = json.Marshal(c) },
		"link as join":  func(c *Claim, env *envelope, _ []byte) { c.Kind = KindJoin; env.Body, _ = json.Marshal(c) },
		"not a claim":   func(_ *Claim, env *envelope, _ []byte) { env.Body = json.RawMessage(`[1]`) },
		"old challenge": func(_ *Claim, env *envelope, before []byte) { before[0] ^= 1; env.Sig = []byte("replayed") },
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			ws, out := greet(t, relayKey, yes)
			talk, done := newTalk(context.Background(), ws)
			defer done()
			if err := talk.send("", hello{Nonce: newNonce()}, signers{}); err != nil {
				t.Fatal(err)
			}
			var c challenge
			if _, _, err := talk.receive(&c); err != nil || string(c.Key) != string(pinnedKey) {
				t.Fatalf("challenge: %v", err)
			}
			key := newKey(t)
			claim := linkClaim()
			claim.Alg, claim.Key = algEd25519, key.Public().(ed25519.PublicKey)
			body, _ := json.Marshal(claim)
			before := talk.transcript.Sum(nil)
			env := envelope{Body: body, Sig: ed25519.Sign(key, signed("agent link", before, body))}
			lie(&claim, &env, before)
			if err := ws.WriteJSON(env); err != nil {
				t.Fatal(err)
			}
			if got := <-out; got.err == nil {
				t.Errorf("accepted: %+v", got.claim)
			}
		})
	}
}

func TestHandshakeIsBounded(t *testing.T) {
	for name, misbehave := range map[string]func(ws *websocket.Conn){
		"4 kB are too many": func(ws *websocket.Conn) { _ = ws.WriteMessage(websocket.TextMessage, make([]byte, 5000)) },
		"binary":            func(ws *websocket.Conn) { _ = ws.WriteMessage(websocket.BinaryMessage, []byte("{}")) },
		"not JSON":          func(ws *websocket.Conn) { _ = ws.WriteMessage(websocket.TextMessage, []byte("GET /")) },
		"no nonce":          func(ws *websocket.Conn) { _ = ws.WriteMessage(websocket.TextMessage, []byte(`{"body":{}}`)) },
		"gone":              func(ws *websocket.Conn) { _ = ws.NetConn().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			ws, out := greet(t, newKey(t), yes)
			misbehave(ws)
			if got := <-out; got.err == nil {
				t.Error("the handshake succeeded")
			}
		})
	}
}

func TestHandshakeEndsWithItsContext(t *testing.T) {
	rws, _ := sockets(t)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, _, err := Greet(ctx, rws, RelayIdentity{Key: newKey(t)}, yes); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := rws.NetConn().Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is still open: %v", err)
	}
}

func TestJoinString(t *testing.T) {
	j := JoinString{Relay: "https://relay.example.com", RelayKey: "sha256:abc", Gateway: "plant1", Code: NewCode()}
	line := j.Encode()
	got, err := ParseJoinString(" " + line[:20] + "\r\n  " + line[20:] + "\n")
	if err != nil || got != j {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ParseJoinString("\ufeff" + line); err != nil || got != j {
		t.Errorf("behind a byte order mark: %+v, %v", got, err)
	}
	for _, wide := range []string{"\xff\xfe" + strings.Join(strings.Split(line, ""), "\x00"), strings.Join(strings.Split(line, ""), "\x00")} {
		if _, err := ParseJoinString(wide); err == nil || !strings.Contains(err.Error(), "UTF-16") {
			t.Errorf("in UTF-16: %v", err)
		}
	}
	for name, bad := range map[string]string{
		"empty": "", "other text": "hello", "cut short": line[:len(line)-3], "changed": line[:30] + "A" + line[31:], "long": line + strings.Repeat("A", 9000),
		"no relay": JoinString{RelayKey: "k", Gateway: "g", Code: "c"}.Encode(), "ftp": JoinString{Relay: "ftp://x", RelayKey: "k", Gateway: "g", Code: "c"}.Encode(),
	} {
		if _, err := ParseJoinString(bad); err == nil {
			t.Errorf("%s: accepted", name)
		} else if len(bad) > 20 && strings.Contains(err.Error(), bad[10:20]) {
			t.Errorf("%s: the error quotes the secret: %v", name, err)
		}
	}
	if s := j.String() + " " + strings.TrimSpace(strings.Repeat(" ", 1)); strings.Contains(s, j.Code) {
		t.Errorf("String shows the code: %s", s)
	}
}
