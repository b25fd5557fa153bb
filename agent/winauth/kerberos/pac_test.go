package kerberos

import (
	"encoding/binary"
	"testing"

	"github.com/jcmturner/gokrb5/v8/types"
)

// FuzzPAC: whatever stands in a ticket's PAC, there is an account or an error, and no panic.
func FuzzPAC(f *testing.F) {
	buffer := func(kind uint32, body []byte) []byte {
		b := binary.LittleEndian.AppendUint32(nil, 1)
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint32(b, kind)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
		return append(binary.LittleEndian.AppendUint64(b, 24), body...)
	}
	f.Add([]byte{})
	f.Add(buffer(pacLogon, make([]byte, 64)))
	f.Add(buffer(pacUPN, []byte{2, 0, 4, 0, 'a', 0}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if says, err := parsePAC(data); (says == nil) != (err != nil) || err == nil && says.sid == "" {
			t.Errorf("%+v, %v", says, err)
		}
		_ = upnOf(data)
	})
}

func session() *Context {
	return &Context{key: types.EncryptionKey{KeyType: 18, KeyValue: make([]byte, 32)}}
}

// FuzzOpen: a message that the server has not made with the session's key is refused.
func FuzzOpen(f *testing.F) {
	x := session()
	for _, make := range []func([]byte) ([]byte, error){x.Seal, x.Sign} {
		token, err := make([]byte("message"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(token) // our own: the other side's has another direction
		token[2] |= fromAcceptor
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x := session()
		if msg, _, err := x.Open(data); err == nil {
			t.Errorf("%x is taken for %q", data, msg)
		}
	})
}
