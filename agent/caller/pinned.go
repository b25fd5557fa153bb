package caller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"sallyport/internal/bearer"
)

// maxPinned bounds the keys of a file.
const maxPinned = 64

// pinned are keys from a file. They are tried one after another.
type pinned struct{ set *oidc.StaticKeySet }

// Pinned reads public keys from a JSON Web Key Set (RFC 7517 section 5), as an issuer has it at its jwks_uri.
func Pinned(data []byte) (bearer.Keys, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("not a JSON Web Key Set (save what the issuer has at its jwks_uri): %w", err)
	}
	set := &oidc.StaticKeySet{}
	for i, text := range doc.Keys {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(text); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if !k.Valid() || !k.IsPublic() {
			return nil, fmt.Errorf("key %d: only public keys belong here", i+1)
		}
		if k.Use == "" || k.Use == "sig" {
			set.PublicKeys = append(set.PublicKeys, k.Key)
		}
	}
	if n := len(set.PublicKeys); n == 0 || n > maxPinned {
		return nil, fmt.Errorf("%d keys for signatures (1 to %d are needed)", n, maxPinned)
	}
	return pinned{set}, nil
}

// Signed implements bearer.Keys.
func (p pinned) Signed(ctx context.Context, raw string, algorithms []string) error {
	noted := &noted{set: p.set}
	_, err := oidc.NewVerifier("", noted, &oidc.Config{
		SkipClientIDCheck: true, SkipExpiryCheck: true, SkipIssuerCheck: true, SupportedSigningAlgs: algorithms,
	}).Verify(ctx, raw)
	if noted.signed {
		return nil
	}
	if err == nil {
		err = errors.New("no key of the file has signed it")
	}
	return err
}

// noted remembers that the signature held, whatever else is said of the token.
type noted struct {
	set    oidc.KeySet
	signed bool
}

func (n *noted) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := n.set.VerifySignature(ctx, jwt)
	n.signed = err == nil
	return payload, err
}
