package kerberos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/messages"
)

// Errors without a code of the KDC's.
var (
	// ErrNoKey: the keytab has no key that fits.
	ErrNoKey = errors.New("the keytab has no key for this account")
	// ErrNoTGT: the credential cache has no ticket-granting ticket that is still valid.
	ErrNoTGT = errors.New("the credential cache has no valid ticket-granting ticket")
	// ErrOtherOwner: the credential cache belongs to someone else than at the start.
	ErrOtherOwner = errors.New("the credential cache belongs to another principal now")
	// ErrNotMutual: the server's answer does not prove that it knows the service's key.
	ErrNotMutual = errors.New("the server's answer does not prove its identity")
)

// A Step is the exchange in which a KDCError came.
type Step string

// The exchanges.
const (
	StepLogon   Step = "logon"   // AS: the account proves itself
	StepService Step = "service" // TGS: a ticket for a service
	StepServer  Step = "server"  // AP: the server refused the ticket
)

// A KDCError is a KRB-ERROR message.
type KDCError struct {
	Step     Step
	Code     int32 // RFC 4120 section 7.5.9
	Text     string
	NTStatus uint32 // what Active Directory says more precisely, 0 if nothing
	Realm    string
	Name     string        // the account or the service asked for
	Skew     time.Duration // the other side's clock minus ours
	CRealm   string        // where the account lives (code 68)
	KVNO     int           // the key version used from a keytab, 0 if none
	edata    []byte
}

func (e *KDCError) Error() string {
	s := fmt.Sprintf("%s of %s in %s refused: %s", e.Step, e.Name, e.Realm, strings.TrimSpace(errorcode.Lookup(e.Code)))
	if e.NTStatus != 0 {
		s += fmt.Sprintf(" (NTSTATUS 0x%08X)", e.NTStatus)
	}
	if e.Text != "" {
		s += ": " + clean(e.Text)
	}
	return s
}

// clean bounds foreign text for logs.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200])
	}
	return strings.ToValidUTF8(s, "?")
}

// An UnreachableError says that no KDC of a realm answered.
type UnreachableError struct {
	Realm string
	Tried []string // address: what went wrong
	Err   error
}

func (e *UnreachableError) Error() string {
	if len(e.Tried) == 0 {
		return fmt.Sprintf("no domain controller of %s: %v", e.Realm, e.Err)
	}
	return fmt.Sprintf("no domain controller of %s answered: %s", e.Realm, strings.Join(e.Tried, "; "))
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// isKRBError tells a KRB-ERROR, [APPLICATION 30], from a reply.
func isKRBError(b []byte) bool { return len(b) > 0 && b[0] == 0x7e }

func parseKRBError(b []byte, step Step, name string, now time.Time) error {
	var k messages.KRBError
	if err := guard("the error message", func() error { return k.Unmarshal(b) }); err != nil {
		return err
	}
	e := &KDCError{
		Step: step, Code: k.ErrorCode, Text: k.EText, Realm: k.Realm, Name: name, CRealm: k.CRealm, edata: k.EData,
		NTStatus: ntStatus(k.EData),
	}
	if !k.STime.IsZero() {
		e.Skew = k.STime.Sub(now).Round(time.Second)
	}
	return e
}

// ntStatus finds the NTSTATUS in e-data: KERB-ERROR-DATA with KERB_EXT_ERROR inside (MS-KILE sections 2.2.1 and 2.2.2),
// or the same as PA-DATA of type 3, as the KDC of Windows sends it.
func ntStatus(edata []byte) uint32 {
	type data struct {
		Type  int    `asn1:"explicit,tag:1"`
		Value []byte `asn1:"explicit,tag:2,optional"`
	}
	var one data
	var list []data
	_ = guard("e-data", func() error {
		if _, err := asn1.Unmarshal(edata, &one); err == nil {
			list = append(list, one)
			return nil
		}
		_, err := asn1.Unmarshal(edata, &list)
		return err
	})
	for _, d := range list {
		if d.Type == 3 && len(d.Value) == 12 {
			return binary.LittleEndian.Uint32(d.Value)
		}
	}
	return 0
}
