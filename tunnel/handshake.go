package tunnel

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// Subprotocol is the WebSocket subprotocol that both sides must agree on (RFC 6455 section 1.9).
	Subprotocol = "sallyport.v1"
	// Path is where a relay accepts links.
	Path = "/_/link"

	// handshakeTimeout ends a handshake that does not come to its end; handshakeLimit bounds each of its messages, since
	// nobody is proved yet.
	handshakeTimeout = 10 * time.Second
	handshakeLimit   = 4 << 10
	// tokenClaimLimit bounds a claim with a token, which a relay reads only if it takes tokens: Entra's grow with each role.
	tokenClaimLimit = 16 << 10

	// algEd25519 names the only key algorithm so far. The name travels, so that keys in a TPM can come later.
	algEd25519 = "ed25519"

	nonceSize = 32
)

// The kinds of Claim.
const (
	KindLink = "link" // an agent that has joined opens a link
	KindJoin = "join" // an agent makes itself a member of a gateway with a one-time code
	// KindRotate: an agent replaces its key. It proves the old and the new one; there is no link.
	KindRotate = "rotate"
	// KindCheck: an agent's admin asks how the relay stands to the agent; there is no link.
	KindCheck = "check"
)

// A Claim is what an agent says of itself in the handshake. Greet returns it only after the signatures have been
// verified: the agent holds the private halves of Key and, to join, of CodeKey. Whether those keys may do what is
// claimed is the relay's decision.
type Claim struct {
	Kind    string `json:"kind"`
	Gateway string `json:"gateway"`
	// Agent is the agent's ID; empty when joining.
	Agent string `json:"agent,omitempty"`
	// Alg and Key are the agent's public key.
	Alg string `json:"alg"`
	Key []byte `json:"key"`
	// CodeKey is the public half of the key that JoinKey derives from the one-time code; only for KindJoin.
	CodeKey []byte `json:"code_key,omitempty"`
	// NewKey is the key that takes the place of Key; only for KindRotate.
	NewKey []byte `json:"new_key,omitempty"`
	// Sealed is Token as it travels: for the relay alone, and for this handshake alone.
	Sealed []byte `json:"sealed,omitempty"`
	// Token, if there is one, says who the agent is, and Key is any key that it holds. It is a bearer token: never log it.
	Token string `json:"-"`
	// Instance is random per process, Slot numbers the process's links, Generation grows with each dial of a slot.
	Instance   string `json:"instance"`
	Slot       int    `json:"slot"`
	Generation uint64 `json:"generation"`
	// Version is the agent program's version; Name is what its admin calls the machine. Both for people only.
	Version string `json:"version,omitempty"`
	Name    string `json:"name,omitempty"`
}

// A Welcome is the relay's last word of a handshake that succeeded.
type Welcome struct {
	// Agent is the agent's ID as the relay knows it.
	Agent string `json:"agent"`
	// Pending says that an agent has joined and cannot link before an admin of the relay has approved it.
	Pending bool `json:"pending,omitempty"`
	// Node is the ID of the relay node, Nodes how many there are.
	Node  string `json:"node"`
	Nodes int    `json:"nodes"`
	// Version is the relay program's version, for people only.
	Version string `json:"version,omitempty"`
	// Echoes are what the agent's links answered when the relay asked them; only for KindCheck.
	Echoes []Echo `json:"echoes,omitempty"`
	// Bond is what this link has in common with no other; Greet and Introduce fill it in.
	Bond *Bond `json:"-"`
}

// An Echo is what came of asking an agent over one of its links for a sign of life.
type Echo struct {
	Slot int `json:"slot"`
	// Answered is whether one came in time, Millis the link's last round trip in milliseconds, as the relay measured it.
	Answered bool    `json:"answered"`
	Millis   float64 `json:"rtt_ms,omitempty"`
}

// MaxEchoes bounds Echoes: more would not fit into a message of the handshake.
const MaxEchoes = 32

// Codes of refusals that an agent tells its admin in words of their own.
const (
	RefusedPending = "pending" // an admin has not approved the agent yet
	RefusedClone   = "clone"   // another process with the agent's key is linked
	// RefusedKeyReplaced: the agent has a newer key, as the relay knows it.
	RefusedKeyReplaced = "key-replaced"
)

// A Refusal is the relay's last word of a handshake that failed. It is an error on both sides.
type Refusal struct {
	// Code is for machines: "revoked", "unknown-agent", "code-used", "clone", "busy", ...
	Code string `json:"code"`
	// Reason is for the agent's admin.
	Reason string `json:"reason"`
	// Permanent says that trying again does not help before an admin has acted.
	Permanent bool `json:"permanent,omitempty"`
	// RetryAfter, if not zero, is how long the relay asks the agent to wait.
	RetryAfter time.Duration `json:"retry_after_ns,omitempty"`
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the relay refused: %s (%s)", r.Reason, r.Code)
}

// ErrRelayKey is wrapped by Introduce's error when the relay has not proved the signing key that is pinned: it is
// another relay, or its key was replaced.
var ErrRelayKey = errors.New("the relay's signing key is not the pinned one")

// A RelayIdentity is how a relay proves itself to agents.
type RelayIdentity struct {
	Key     ed25519.PrivateKey
	Node    string
	Nodes   int
	Version string
	// Tokens says that the relay takes agents' tokens.
	Tokens bool
}

// An AgentIdentity is how an agent proves itself to a relay.
type AgentIdentity struct {
	Claim Claim
	// Key signs for Claim.Key, which Introduce fills in.
	Key crypto.Signer
	// CodeKey signs for Claim.CodeKey; only for KindJoin.
	CodeKey ed25519.PrivateKey
	// NewKey signs for Claim.NewKey; only for KindRotate.
	NewKey ed25519.PrivateKey
	// Token, if not empty, is shown too: sealed for the relay, and only after the relay has proved its key.
	Token string
	// Decline, if not nil, says that a link to this one of so many relay nodes is not wanted. Introduce then gives
	// ErrOtherNode, and the agent has said nothing of itself.
	Decline func(node string, nodes int) bool
}

// ErrOtherNode is wrapped by Introduce's error when the agent has declined the relay node.
var ErrOtherNode = errors.New("another relay node is wanted")

// otherNode is the text of the close frame with which an agent declines; IsDeclined knows it at the relay.
const otherNode = "another node"

// IsDeclined reports whether Greet failed because the agent wants a link to another relay node: nothing is wrong.
func IsDeclined(err error) bool {
	ce, ok := errors.AsType[*websocket.CloseError](err)
	return ok && ce.Code == websocket.CloseNormalClosure && ce.Text == otherNode
}

// The four messages, in order: hello (agent), challenge (relay), claim (agent), verdict (relay). Each is one text
// message holding an envelope; the signatures cover a label, everything said before, and the body.
type (
	hello struct {
		Nonce []byte `json:"nonce"`
	}
	challenge struct {
		Nonce []byte `json:"nonce"`
		Alg   string `json:"alg"`
		Key   []byte `json:"key"`
		Node  string `json:"node"`
		Nodes int    `json:"nodes"`
		// Seal is the public key to seal tokens to; empty if the relay takes none.
		Seal []byte `json:"seal,omitempty"`
	}
	verdict struct {
		Welcome *Welcome `json:"welcome,omitempty"`
		Refusal *Refusal `json:"refusal,omitempty"`
	}
	envelope struct {
		Body    json.RawMessage `json:"body"`
		Sig     []byte          `json:"sig,omitempty"`
		CodeSig []byte          `json:"code_sig,omitempty"`
		NewSig  []byte          `json:"new_sig,omitempty"`
	}
)

// Greet is the relay's side of the handshake. It returns when the agent has proved its claim and verify has accepted
// it; verify's error is sent to the agent (as it is if it is a *Refusal) and returned. Greet leaves ws open on success
// alone. The handshake ends within 10 seconds; at most 4 kB are read of any message.
func Greet(ctx context.Context, ws *websocket.Conn, id RelayIdentity, verify func(context.Context, Claim) (Welcome, error)) (Claim, Welcome, error) {
	t, done := newTalk(ctx, ws)
	defer done()
	claim, welcome, err := t.greet(ctx, id, verify)
	if err != nil {
		_ = ws.Close()
		return Claim{}, Welcome{}, fmt.Errorf("handshake with agent: %w", t.cause(ctx, err))
	}
	return claim, welcome, t.release()
}

func (t *talk) greet(ctx context.Context, id RelayIdentity, verify func(context.Context, Claim) (Welcome, error)) (Claim, Welcome, error) {
	var h hello
	if _, _, err := t.receive(&h); err != nil {
		return Claim{}, Welcome{}, err
	}
	if len(h.Nonce) != nonceSize {
		return Claim{}, Welcome{}, errors.New("the hello has no proper nonce")
	}
	bond := &Bond{}
	c := challenge{Nonce: newNonce(), Alg: algEd25519, Key: id.Key.Public().(ed25519.PublicKey), Node: id.Node, Nodes: max(id.Nodes, 1)}
	if id.Tokens {
		var err error
		if bond.with, err = newSealKey(); err != nil {
			return Claim{}, Welcome{}, fmt.Errorf("make a key for tokens: %w", err)
		}
		c.Seal = bond.with.PublicKey().Bytes()
		t.ws.SetReadLimit(tokenClaimLimit)
	}
	if err := t.send("relay challenge", c, signers{key: id.Key}); err != nil {
		return Claim{}, Welcome{}, err
	}
	var claim Claim
	env, before, err := t.receive(&claim)
	if err != nil {
		return Claim{}, Welcome{}, err
	}
	welcome, err := Welcome{}, checkClaim(claim, env, before)
	if err == nil && len(claim.Sealed) > 0 {
		claim.Token, err = openToken(bond.with, before, claim.Sealed)
	}
	if err == nil {
		welcome, err = verify(ctx, claim)
	}
	if err != nil {
		refusal, ok := errors.AsType[*Refusal](err)
		if !ok {
			refusal = &Refusal{Code: "internal", Reason: "the relay could not decide; its log says why"}
		}
		_ = t.send("relay verdict", verdict{Refusal: refusal}, signers{key: id.Key})
		return Claim{}, Welcome{}, err
	}
	welcome.Node, welcome.Nodes, welcome.Version = id.Node, max(id.Nodes, 1), id.Version
	err = t.send("relay verdict", verdict{Welcome: &welcome}, signers{key: id.Key})
	bond.hash = t.transcript.Sum(nil)
	welcome.Bond = bond
	return claim, welcome, err
}

// checkClaim verifies that whoever wrote the claim holds the keys that it names.
func checkClaim(c Claim, env envelope, before []byte) error {
	if c.Alg != algEd25519 || len(c.Key) != ed25519.PublicKeySize {
		return &Refusal{Code: "bad-key", Permanent: true, Reason: fmt.Sprintf("keys of the kind %.20q are not known to this relay", c.Alg)}
	}
	if !ed25519.Verify(c.Key, signed(agentLabel(c.Kind), before, env.Body), env.Sig) {
		return &Refusal{Code: "bad-signature", Permanent: true, Reason: "the agent did not prove its key"}
	}
	switch c.Kind {
	case KindLink, KindCheck:
		return nil
	case KindJoin:
		if len(c.CodeKey) != ed25519.PublicKeySize || !ed25519.Verify(c.CodeKey, signed("join code", before, env.Body), env.CodeSig) {
			return &Refusal{Code: "bad-code", Permanent: true, Reason: "the agent did not prove the one-time code"}
		}
		return nil
	case KindRotate:
		if len(c.NewKey) != ed25519.PublicKeySize || !ed25519.Verify(c.NewKey, signed(newKeyLabel, before, env.Body), env.NewSig) {
			return &Refusal{Code: "bad-signature", Permanent: true, Reason: "the agent did not prove its new key"}
		}
		return nil
	}
	return &Refusal{Code: "bad-claim", Permanent: true, Reason: fmt.Sprintf("claims of the kind %.20q are not known to this relay", c.Kind)}
}

// Introduce is the agent's side of the handshake. pinned is the fingerprint of the relay's signing key; nothing about
// the agent is said before the relay has proved that key. A *Refusal or ErrRelayKey can be found in the error. Introduce
// leaves ws open on success alone.
func Introduce(ctx context.Context, ws *websocket.Conn, id AgentIdentity, pinned string) (Welcome, error) {
	t, done := newTalk(ctx, ws)
	defer done()
	welcome, err := t.introduce(id, pinned)
	if err != nil {
		_ = ws.Close()
		return Welcome{}, fmt.Errorf("handshake with relay: %w", t.cause(ctx, err))
	}
	return welcome, t.release()
}

func (t *talk) introduce(id AgentIdentity, pinned string) (Welcome, error) {
	if err := t.send("", hello{Nonce: newNonce()}, signers{}); err != nil {
		return Welcome{}, err
	}
	var c challenge
	env, before, err := t.receive(&c)
	if err != nil {
		return Welcome{}, err
	}
	if c.Alg != algEd25519 || len(c.Key) != ed25519.PublicKeySize || len(c.Nonce) != nonceSize {
		return Welcome{}, errors.New("the relay's challenge is not one that this agent understands; is the agent too old?")
	}
	if got := Fingerprint(c.Key); got != pinned {
		return Welcome{}, fmt.Errorf("%w: it shows %s, pinned is %s", ErrRelayKey, got, pinned)
	}
	if !ed25519.Verify(c.Key, signed("relay challenge", before, env.Body), env.Sig) {
		return Welcome{}, fmt.Errorf("%w: it shows the right key but cannot sign with it", ErrRelayKey)
	}
	if id.Decline != nil && id.Decline(c.Node, c.Nodes) {
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, otherNode)
		_ = t.ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(closeTimeout))
		return Welcome{}, fmt.Errorf("%w than %s", ErrOtherNode, c.Node)
	}
	bond := &Bond{}
	if len(c.Seal) > 0 {
		if bond.to, err = hpke.DHKEM(ecdh.X25519()).NewPublicKey(c.Seal); err != nil {
			return Welcome{}, fmt.Errorf("the relay's key for tokens: %w", err)
		}
	}
	claim, err := id.claim(bond.to, t.transcript.Sum(nil))
	if err != nil {
		return Welcome{}, err
	}
	if err := t.send(agentLabel(claim.Kind), claim, signers{id.Key, id.CodeKey, id.NewKey}); err != nil {
		return Welcome{}, err
	}
	var v verdict
	if env, before, err = t.receive(&v); err != nil {
		return Welcome{}, err
	}
	if !ed25519.Verify(c.Key, signed("relay verdict", before, env.Body), env.Sig) {
		return Welcome{}, errors.New("the relay's verdict is not signed by the relay")
	}
	if v.Refusal != nil {
		return Welcome{}, v.Refusal
	}
	if v.Welcome == nil {
		return Welcome{}, errors.New("the relay's verdict is empty")
	}
	bond.hash = t.transcript.Sum(nil)
	v.Welcome.Bond = bond
	return *v.Welcome, nil
}

// claim completes the claim with the keys, and with the token sealed to the relay.
func (id AgentIdentity) claim(seal hpke.PublicKey, before []byte) (Claim, error) {
	c, pub := id.Claim, id.Key.Public()
	key, ok := pub.(ed25519.PublicKey)
	if !ok {
		return c, fmt.Errorf("the agent's key is a %T; only Ed25519 keys are supported", pub)
	}
	c.Alg, c.Key = algEd25519, key
	switch c.Kind {
	case KindJoin:
		c.CodeKey = id.CodeKey.Public().(ed25519.PublicKey)
	case KindRotate:
		c.NewKey = id.NewKey.Public().(ed25519.PublicKey)
	}
	var err error
	if id.Token != "" {
		c.Sealed, err = sealToken(seal, before, id.Token)
	}
	return c, err
}

func agentLabel(kind string) string { return "agent " + kind }

const newKeyLabel = "agent new key"

// signers sign one message: none of them, the first, or to join and to rotate one more.
type signers struct {
	key     crypto.Signer
	codeKey ed25519.PrivateKey
	newKey  ed25519.PrivateKey
}

// A talk is one handshake under way: it bounds time and size, and keeps the transcript that each signature covers.
type talk struct {
	ws         *websocket.Conn
	transcript hash.Hash
}

// newTalk arms the handshake's deadline; a ctx that ends closes the connection, which ends every wait.
func newTalk(ctx context.Context, ws *websocket.Conn) (*talk, func()) {
	deadline := time.Now().Add(handshakeTimeout)
	_ = ws.SetReadDeadline(deadline)
	_ = ws.SetWriteDeadline(deadline)
	ws.SetReadLimit(handshakeLimit)
	stop := context.AfterFunc(ctx, func() { _ = ws.NetConn().Close() })
	return &talk{ws: ws, transcript: sha256.New()}, func() { stop() }
}

// release hands the connection over to a Link.
func (t *talk) release() error {
	_ = t.ws.SetWriteDeadline(time.Time{})
	return t.ws.SetReadDeadline(time.Time{})
}

// cause prefers the context's reason to the "use of closed connection" that it led to.
func (t *talk) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// send writes one message, signed under label if there is a key, and adds it to the transcript.
func (t *talk) send(label string, body any, by signers) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	env, before := envelope{Body: raw}, t.transcript.Sum(nil)
	if by.key != nil {
		if env.Sig, err = by.key.Sign(rand.Reader, signed(label, before, raw), crypto.Hash(0)); err != nil {
			return fmt.Errorf("sign: %w", err)
		}
	}
	if len(by.codeKey) == ed25519.PrivateKeySize {
		env.CodeSig = ed25519.Sign(by.codeKey, signed("join code", before, raw))
	}
	if len(by.newKey) == ed25519.PrivateKeySize {
		env.NewSig = ed25519.Sign(by.newKey, signed(newKeyLabel, before, raw))
	}
	t.note(raw)
	msg, err := json.Marshal(env)
	if err != nil {
		return err
	}
	return t.ws.WriteMessage(websocket.TextMessage, msg)
}

// receive reads one message into body and returns its envelope and the transcript's hash before it.
func (t *talk) receive(body any) (env envelope, before []byte, err error) {
	kind, msg, err := t.ws.ReadMessage()
	if err != nil {
		return env, nil, err
	}
	if kind != websocket.TextMessage {
		return env, nil, errors.New("a binary message came before the handshake was done")
	}
	if env, err = parseEnvelope(msg); err != nil {
		return env, nil, err
	}
	if err := env.into(body); err != nil {
		return env, nil, err
	}
	before = t.transcript.Sum(nil)
	t.note(env.Body)
	return env, before, nil
}

func parseEnvelope(msg []byte) (env envelope, err error) {
	if err := json.Unmarshal(msg, &env); err != nil {
		return env, fmt.Errorf("a handshake message is not JSON: %w", err)
	}
	return env, nil
}

func (e envelope) into(body any) error {
	if err := json.Unmarshal(e.Body, body); err != nil {
		return fmt.Errorf("a handshake message has an unexpected form: %w", err)
	}
	return nil
}

func (t *talk) note(body []byte) {
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(body)))
	t.transcript.Write(n[:])
	t.transcript.Write(body)
}

// signed is what a signature covers: the protocol and the role, all that was said before, and the body.
func signed(label string, before, body []byte) []byte {
	b := append([]byte(Subprotocol+" "+label+"\x00"), before...)
	return append(b, body...)
}

func newNonce() []byte {
	n := make([]byte, nonceSize)
	_, _ = rand.Read(n) // never fails (crypto/rand)
	return n
}

// Fingerprint names a public key: "sha256:" and the unpadded base64url form of its SHA-256.
func Fingerprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:])
}
