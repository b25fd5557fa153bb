// Package entra is who an agent is in Microsoft Entra ID: a managed identity, a workload identity, or an application with a
// secret or a certificate. It has no secret of Sallyport's, and no join.
//
// It gets tokens, through azidentity, and says when they have to be renewed; agent/link shows them, after the relay has proved
// its signing key. The key in its claims is made for this process alone: the token says who the agent is.
//
//	id, err := entra.New(entra.Config{Credential: "managed-identity", Scope: "api://sallyport/.default", ...})
//	who, err := id.Claim(ctx)                       // makes agent/link's Identity of it
//	err = id.Run(ctx, func() { links.Prove(ctx) })  // renews the token, until ctx ends
package entra

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"sallyport/agent/secret"
	"sallyport/tunnel"
)

// The ways to prove oneself to Entra.
const (
	ManagedIdentity = "managed-identity" // of an Azure VM, container or function
	Arc             = "arc"              // the managed identity of a machine elsewhere that Azure Arc knows
	Workload        = "workload"         // workload identity of Kubernetes: a federated token in a file
	ClientSecret    = "client-secret"    // an application's secret
	Certificate     = "certificate"      // an application's certificate
	Environment     = "environment"      // azidentity's own environment variables
	CLI             = "cli"              // whoever is signed on with az, for trying it out
)

// Credentials lists them.
func Credentials() []string {
	return []string{ManagedIdentity, Arc, Workload, ClientSecret, Certificate, Environment, CLI}
}

const (
	// fetchTimeout bounds the wait for a token, azidentity's own repetitions included.
	fetchTimeout = 45 * time.Second
	// lead is how long before its end a token is renewed; half of its life if that is shorter.
	lead = 5 * time.Minute
	// retryFirst and retryMost are the waits after a renewal that failed; they double.
	retryFirst = 5 * time.Second
	retryMost  = time.Minute
)

// Config says who the agent is in Entra.
type Config struct {
	// Credential is one of Credentials.
	Credential string
	// Tenant and Client are GUIDs; which of them are needed depends on Credential.
	Tenant, Client string
	// Scope names the relay: its application ID URI or client GUID, and "/.default".
	Scope string
	// Authority is the cloud's, https. Default: azidentity's, the public cloud.
	Authority string
	// Secret is the application's, for ClientSecret, or the password of the certificate's key.
	Secret secret.Secret
	// Certificate is the content of a PEM or PKCS#12 file with the certificate and its key.
	Certificate []byte
	// Gateway is the gateway that the agent answers for.
	Gateway string
	// Client goes to Entra: through the agent's proxy, with its trust store.
	HTTP *http.Client
	Log  *slog.Logger
}

// An Identity is the agent's in Entra. Safe for concurrent use.
type Identity struct {
	c    Config
	cred azcore.TokenCredential
	key  ed25519.PrivateKey

	mu    sync.Mutex
	token azcore.AccessToken // guarded by mu
	got   time.Time          // guarded by mu; when the token came
}

// New checks the configuration and reads nothing but it; it does not touch the network.
func New(c Config) (*Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for this process: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	i := &Identity{c: c, key: key}
	if i.cred, err = c.credential(); err != nil {
		return nil, fmt.Errorf("identity.entra: %w", err)
	}
	return i, nil
}

func (c Config) options() azcore.ClientOptions {
	o := azcore.ClientOptions{Telemetry: policy.TelemetryOptions{Disabled: true}}
	if c.HTTP != nil {
		o.Transport = c.HTTP
	}
	if c.Authority != "" {
		o.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: c.Authority}
	}
	return o
}

// credential asks azidentity for one. With an authority of its own the agent goes to no other: instance discovery would ask
// the public cloud about it.
func (c Config) credential() (azcore.TokenCredential, error) {
	o, own := c.options(), c.Authority != ""
	switch c.Credential {
	case ManagedIdentity, Arc:
		m := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: o}
		if c.Client != "" {
			m.ID = azidentity.ClientID(c.Client)
		}
		return azidentity.NewManagedIdentityCredential(m)
	case Workload:
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: o, ClientID: c.Client, TenantID: c.Tenant, DisableInstanceDiscovery: own,
		})
	case ClientSecret:
		return azidentity.NewClientSecretCredential(c.Tenant, c.Client, c.Secret.Reveal(),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: own})
	case Certificate:
		certs, key, err := c.certificate()
		if err != nil {
			return nil, err
		}
		return azidentity.NewClientCertificateCredential(c.Tenant, c.Client, certs, key,
			&azidentity.ClientCertificateCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: own, SendCertificateChain: true})
	case Environment:
		return azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: own})
	case CLI:
		return azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{TenantID: c.Tenant})
	}
	return nil, fmt.Errorf("credential %q is not known", c.Credential)
}

func (c Config) certificate() ([]*x509.Certificate, crypto.PrivateKey, error) {
	var password []byte
	if p := c.Secret.Reveal(); p != "" {
		password = []byte(p)
	}
	certs, key, err := azidentity.ParseCertificates(c.Certificate, password)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate: %w (a PEM or PKCS#12 file with the certificate and its key is needed)", err)
	}
	return certs, key, nil
}

// Claim is how the agent proves itself on a link. The token is at hand before the link is dialed.
func (i *Identity) Claim(ctx context.Context) (tunnel.AgentIdentity, error) {
	token, err := i.fresh(ctx, time.Now())
	if err != nil {
		return tunnel.AgentIdentity{}, err
	}
	return tunnel.AgentIdentity{
		Claim: tunnel.Claim{Kind: tunnel.KindLink, Gateway: i.c.Gateway}, Key: i.key, Token: token.Token,
	}, nil
}

// due is when the token should be renewed. i.mu is held.
func (i *Identity) due() time.Time {
	life := i.token.ExpiresOn.Sub(i.got)
	return i.token.ExpiresOn.Add(-min(lead, life/2))
}

// fresh gives a token that need not be renewed yet. One that is still good serves if no newer one can be had.
func (i *Identity) fresh(ctx context.Context, now time.Time) (azcore.AccessToken, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.token.Token != "" && now.Before(i.due()) {
		return i.token, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, errors.New("no token came from Entra in time"))
	defer cancel()
	t, err := i.cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{i.c.Scope}})
	if err != nil {
		if i.token.Token != "" && now.Before(i.token.ExpiresOn) {
			i.c.Log.Warn("the Entra token could not be renewed; the present one serves until it ends", "until", i.token.ExpiresOn, "error", i.words(err))
			return i.token, nil
		}
		return azcore.AccessToken{}, fmt.Errorf("get an Entra token (%s): %w", i.c.Credential, i.words(err))
	}
	if t.ExpiresOn.After(i.token.ExpiresOn) { // a cache may give the same one again
		i.token, i.got = t, now
	}
	return i.token, nil
}

// maxWords bounds what is shown of azidentity's errors, which hold whole answers.
const maxWords = 600

func (i *Identity) words(err error) error {
	text := err.Error()
	if s := i.c.Secret.Reveal(); s != "" {
		text = redact(text, s)
	}
	return errors.New(oneLine(text, maxWords))
}

// Run renews the token before it ends and calls renewed for each new one, until ctx ends.
func (i *Identity) Run(ctx context.Context, renewed func()) {
	retry := retryFirst
	for ctx.Err() == nil {
		i.mu.Lock()
		before, wait := i.token.ExpiresOn, time.Until(i.due())
		i.mu.Unlock()
		if before.IsZero() {
			wait = retryFirst // the links ask for the first one
		} else if wait <= 0 {
			wait, retry = retry, min(2*retry, retryMost)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if before.IsZero() {
			continue
		}
		if token, err := i.fresh(ctx, time.Now()); err != nil {
			i.c.Log.Warn("the Entra token could not be renewed; links end with the present one", "error", err)
		} else if token.ExpiresOn.After(before) {
			retry = retryFirst
			i.c.Log.Info("the Entra token was renewed", "until", token.ExpiresOn)
			renewed()
		}
	}
}

// LogValue says who this is, without key or token.
func (i *Identity) LogValue() slog.Value {
	return slog.GroupValue(slog.String("gateway", i.c.Gateway), slog.String("entra", i.c.Credential),
		slog.String("tenant", i.c.Tenant), slog.String("client", i.c.Client))
}

// String keeps key and token out of what is printed.
func (i *Identity) String() string {
	return fmt.Sprintf("Entra %s, client %s of tenant %s", i.c.Credential, i.c.Client, i.c.Tenant)
}

// GoString keeps them out of %#v.
func (i *Identity) GoString() string { return i.String() }
