package tunnel

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The control messages by which an agent's record of calls is anchored outside of its machine.
const (
	// ControlAuditHead tells the relay how far the record is sealed; the body is an AuditHead.
	ControlAuditHead = "audit-head"
	// ControlAuditReceipt is the relay's word that it has it; the body is an AuditReceipt.
	ControlAuditReceipt = "audit-receipt"
	// ControlAuditRefused tells the agent that its head cannot be; the body is an AuditRefusal.
	ControlAuditRefused = "audit-refused"
)

// The words that the two signatures begin with, and the bounds of what is read.
const (
	headLabel, receiptLabel = "audit head", "audit receipt"
	auditHash               = 32
	maxAuditName            = 128
)

// An AuditHead is the newest sealed record of an agent: its number and hash, in base64url, when it was sealed, and the signature
// by the key that seals the record.
type AuditHead struct {
	N    uint64            `json:"n"`
	Hash string            `json:"h"`
	Time time.Time         `json:"time"`
	Key  ed25519.PublicKey `json:"key"`
	Sig  []byte            `json:"sig"`
}

// An AuditReceipt is the relay's word, signed by its key, that an agent's record stood so at Time, by the relay's clock.
type AuditReceipt struct {
	Gateway string            `json:"gateway"`
	Agent   string            `json:"agent"`
	N       uint64            `json:"n"`
	Hash    string            `json:"h"`
	Time    time.Time         `json:"time"`
	Relay   ed25519.PublicKey `json:"relay"`
	Sig     []byte            `json:"sig"`
}

// An AuditRefusal says why there is no receipt for the head N.
type AuditRefusal struct {
	N      uint64 `json:"n"`
	Reason string `json:"reason"`
}

// fields are what a signature covers: in a form of their own, so that whoever indents the JSON breaks nothing.
func fields(label, gateway, agent string, n uint64, hash string, t time.Time) []byte {
	return signed(label, nil, []byte(strings.Join([]string{
		gateway, agent, strconv.FormatUint(n, 10), hash, t.UTC().Format(time.RFC3339Nano),
	}, "\n")))
}

// SignAuditHead signs a head for a gateway.
func SignAuditHead(key crypto.Signer, gateway string, h AuditHead) (AuditHead, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return h, fmt.Errorf("the key of the record is a %T; only Ed25519 keys are supported", key.Public())
	}
	var err error
	h.Key = public
	h.Sig, err = key.Sign(rand.Reader, fields(headLabel, gateway, "", h.N, h.Hash, h.Time), crypto.Hash(0))
	return h, err
}

// ReadAuditHead reads the body of ControlAuditHead and checks the signature. Whose key it is remains to be seen.
func ReadAuditHead(body []byte, gateway string) (h AuditHead, err error) {
	if err := json.Unmarshal(body, &h); err != nil {
		return h, fmt.Errorf("read the head of a record: %w", err)
	}
	if h.N == 0 || !isAuditHash(h.Hash) || len(h.Key) != ed25519.PublicKeySize ||
		!ed25519.Verify(h.Key, fields(headLabel, gateway, "", h.N, h.Hash, h.Time), h.Sig) {
		return h, errors.New("the head of a record is not signed by the key that it names, for this gateway")
	}
	return h, nil
}

// SignAuditReceipt signs a receipt. Equal receipts have equal signatures.
func SignAuditReceipt(key ed25519.PrivateKey, r AuditReceipt) AuditReceipt {
	r.Relay = key.Public().(ed25519.PublicKey)
	r.Sig = ed25519.Sign(key, fields(receiptLabel, r.Gateway, r.Agent, r.N, r.Hash, r.Time))
	return r
}

// Check says what is wrong with a receipt, which has to be signed by the relay key with this fingerprint.
func (r *AuditReceipt) Check(relay string) error {
	switch {
	case r.N == 0 || !isAuditHash(r.Hash) || len(r.Gateway) > maxAuditName || len(r.Agent) > maxAuditName ||
		strings.ContainsAny(r.Gateway+r.Agent, "\n"):
		return errors.New("it is no receipt")
	case len(r.Relay) != ed25519.PublicKeySize || Fingerprint(r.Relay) != relay:
		return ErrOtherRelay
	case !ed25519.Verify(r.Relay, fields(receiptLabel, r.Gateway, r.Agent, r.N, r.Hash, r.Time), r.Sig):
		return errors.New("its signature does not fit it")
	}
	return nil
}

// ErrOtherRelay is a receipt by another key than the relay's.
var ErrOtherRelay = errors.New("it is not by this agent's relay")

func isAuditHash(text string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(b) == auditHash
}
