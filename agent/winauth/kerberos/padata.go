package kerberos

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/crypto/rfc4757"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/types"
)

const (
	// hmacMD5 and usageForUser are the checksum of PA-FOR-USER, whatever the type of the key (MS-SFU section 2.2.1).
	hmacMD5      = -138
	usageForUser = 17
	// usageUserRequest and usageUserReply are for the checksums of PA-S4U-X509-USER (MS-SFU section 2.2.2).
	usageUserRequest = 26
	usageUserReply   = 27
	// useReplyUsage is the bit of the options by which the KDC is asked, and says, to have used usageUserReply.
	useReplyUsage = 2
)

// forUser is PA-FOR-USER-ENC (MS-SFU section 2.2.1).
type forUser struct {
	UserName    types.PrincipalName `asn1:"explicit,tag:0"`
	UserRealm   string              `asn1:"generalstring,explicit,tag:1"`
	Cksum       types.Checksum      `asn1:"explicit,tag:2"`
	AuthPackage string              `asn1:"generalstring,explicit,tag:3"`
}

// userID is S4UUserID, and userPA is PA-S4U-X509-USER (MS-SFU section 2.2.2), here without a certificate.
type userID struct {
	Nonce       int                 `asn1:"explicit,tag:0"`
	CName       types.PrincipalName `asn1:"explicit,tag:1,optional"`
	CRealm      string              `asn1:"generalstring,explicit,tag:2"`
	Certificate []byte              `asn1:"explicit,tag:3,optional"`
	Options     asn1.BitString      `asn1:"explicit,tag:4,optional"`
}

type userPA struct {
	UserID userID         `asn1:"explicit,tag:0"`
	Cksum  types.Checksum `asn1:"explicit,tag:1"`
}

// paForUser names the user in a request for a ticket to self, bound to the session key of the TGT.
func paForUser(user Principal, key types.EncryptionKey) (types.PAData, error) {
	const pkg = "Kerberos"
	name := user.wire()
	data := binary.LittleEndian.AppendUint32(nil, uint32(name.NameType))
	data = append(data, strings.Join(name.NameString, "")+user.Realm+pkg...)
	sum, err := rfc4757.Checksum(key.KeyValue, usageForUser, data)
	if err != nil {
		return types.PAData{}, err
	}
	b, err := asn1.Marshal(forUser{
		UserName: name, UserRealm: user.Realm, AuthPackage: pkg,
		Cksum: types.Checksum{CksumType: hmacMD5, Checksum: sum},
	})
	return types.PAData{PADataType: patype.PA_FOR_USER, PADataValue: b}, err
}

// newer says whether a session key is one with which users are named by PA-S4U-X509-USER too: none of DES or RC4.
func newer(key types.EncryptionKey) bool {
	return slices.Contains([]int32{
		etypeID.AES256_CTS_HMAC_SHA384_192, etypeID.AES128_CTS_HMAC_SHA256_128, etypeID.AES256_CTS_HMAC_SHA1_96, etypeID.AES128_CTS_HMAC_SHA1_96,
	}, key.KeyType)
}

// paUser does the same as paForUser in the newer way, which binds the name to the request as well.
func paUser(user Principal, key types.EncryptionKey, nonce int) (types.PAData, error) {
	pa := userPA{UserID: userID{
		Nonce: nonce, CName: user.wire(), CRealm: user.Realm,
		Options: asn1.BitString{Bytes: []byte{0x80 >> useReplyUsage, 0, 0, 0}, BitLength: 32},
	}}
	raw, err := asn1.Marshal(pa.UserID)
	if err != nil {
		return types.PAData{}, err
	}
	et, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return types.PAData{}, err
	}
	sum, err := et.GetChecksumHash(key.KeyValue, raw, usageUserRequest)
	if err != nil {
		return types.PAData{}, err
	}
	pa.Cksum = types.Checksum{CksumType: et.GetHashID(), Checksum: sum}
	b, err := asn1.Marshal(pa)
	return types.PAData{PADataType: patype.PA_FOR_X509_USER, PADataValue: b}, err
}

var errUserPA = errors.New("the KDC's answer names the user wrongly (PA-S4U-X509-USER)")

// answeredUser reads the user's name in the KDC's own spelling out of an answer. It is false where the KDC does not know
// PA-S4U-X509-USER, and has gone by PA-FOR-USER.
func answeredUser(pas types.PADataSequence, key types.EncryptionKey, nonce int) (name types.PrincipalName, ok bool, err error) {
	i := slices.IndexFunc(pas, func(p types.PAData) bool { return p.PADataType == patype.PA_FOR_X509_USER })
	if i < 0 {
		return name, false, nil
	}
	var pa userPA
	if err := guard("PA-S4U-X509-USER", func() error {
		rest, err := asn1.Unmarshal(pas[i].PADataValue, &pa)
		if err == nil && len(rest) > 0 {
			err = errUserPA
		}
		return err
	}); err != nil {
		return name, false, err
	}
	raw, err := asn1.Marshal(pa.UserID)
	if err != nil {
		return name, false, err
	}
	et, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return name, false, err
	}
	usage := uint32(usageUserRequest)
	if pa.UserID.Options.At(useReplyUsage) == 1 {
		usage = usageUserReply
	}
	if pa.UserID.Nonce != nonce || pa.Cksum.CksumType != et.GetHashID() || !et.VerifyChecksum(key.KeyValue, raw, pa.Cksum.Checksum, usage) {
		return name, false, errUserPA
	}
	return pa.UserID.CName, len(pa.UserID.CName.NameString) > 0, nil
}
