package kerberos

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"sallyport/agent/winauth/spnego"
)

// reply is an AP-REP as a server makes it that knows the key.
func reply(t *testing.T, key types.EncryptionKey, sent time.Time) []byte {
	t.Helper()
	plain, err := asn1.Marshal(messages.EncAPRepPart{CTime: sent.Truncate(time.Second), Cusec: sent.Nanosecond() / 1000})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(plain, asnAppTag.EncAPRepPart), key, keyusage.AP_REP_ENCPART, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := asn1.Marshal(messages.APRep{PVNO: 5, MsgType: 15, EncPart: sealed})
	if err != nil {
		t.Fatal(err)
	}
	body := asn1tools.AddASNAppTag(b, asnAppTag.APREP)
	token, err := spnego.Frame(spnego.Kerberos, append(binary.BigEndian.AppendUint16(nil, tokAPRep), body...))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestMutual(t *testing.T) {
	t.Parallel()
	ticket := ticketWith(t)
	x, _, err := newClient(t, &kdc{}).Initiate(ticket, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := types.EncryptionKey{KeyType: etypeID.AES256_CTS_HMAC_SHA1_96, KeyValue: append(make([]byte, 31), 1)}
	if err := x.Verify(reply(t, ticket.cred.key, x.sent)); err != nil {
		t.Errorf("the right answer: %v", err)
	}
	if err := x.Verify(reply(t, other, x.sent)); !errors.Is(err, ErrNotMutual) {
		t.Errorf("a server that does not know the key: %v", err)
	}
	if err := x.Verify(reply(t, ticket.cred.key, x.sent.Add(time.Microsecond))); !errors.Is(err, ErrNotMutual) {
		t.Errorf("an answer to another sign-on: %v", err)
	}
}
