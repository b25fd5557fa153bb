package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"sallyport/relay/admin"
)

// Automation is named by these variables. The secret is in a file: an environment is read by too many.
const (
	clientVariable     = "SALLYPORT_CLIENT_ID"
	secretFileVariable = "SALLYPORT_CLIENT_SECRET_FILE"
	// configVariable takes the place of the user's configuration folder.
	configVariable = "SALLYPORT_CONFIG_DIR"
)

const (
	// tokenTimeout bounds a request for a token.
	tokenTimeout = 30 * time.Second
	// fileLimit bounds what is read of a secret's or a session's file.
	fileLimit = 64 << 10
)

// A session is what 'login' keeps of one relay.
type session struct {
	Issuer    string    `json:"issuer"`
	Client    string    `json:"client"`
	Scopes    []string  `json:"scopes"`
	TokenURL  string    `json:"tokenUrl"`
	DeviceURL string    `json:"deviceUrl,omitempty"`
	Access    string    `json:"access"`
	Refresh   string    `json:"refresh,omitempty"`
	Expires   time.Time `json:"expires"`
}

func (s *session) keep(t *oauth2.Token) {
	s.Access, s.Expires = t.AccessToken, t.Expiry
	if t.RefreshToken != "" {
		s.Refresh = t.RefreshToken
	}
}

// remoteClient administers the relay that --relay names: as automation if the environment says so, else as who has logged in.
func (p *program) remoteClient() (*admin.Client, error) {
	if p.get(secretFileVariable) != "" {
		return admin.NewRemoteClient(p.relay, p.automation)
	}
	return admin.NewRemoteClient(p.relay, p.loggedIn)
}

// loggedIn gives the kept token, renewed if it has ended.
func (p *program) loggedIn(ctx context.Context) (string, error) {
	s, err := p.loadSession(p.relay)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	old := &oauth2.Token{AccessToken: s.Access, RefreshToken: s.Refresh, Expiry: s.Expires}
	token, err := s.config().TokenSource(ctx, old).Token()
	if err != nil {
		return "", fmt.Errorf("the sign-on has ended (%w); run: sallyport-relay login %s", err, p.relay)
	}
	if token.AccessToken != s.Access {
		s.keep(token)
		if err := p.saveSession(p.relay, s); err != nil {
			return "", err
		}
	}
	return token.AccessToken, nil
}

// automation gets a token with a client's secret.
func (p *program) automation(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	id, path := p.get(clientVariable), p.get(secretFileVariable)
	if id == "" {
		return "", fmt.Errorf("%s is set, but %s is not", secretFileVariable, clientVariable)
	}
	secret, err := readPrivate(path)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", secretFileVariable, err)
	}
	s, err := p.session(ctx, p.relay)
	if err != nil {
		return "", err
	}
	c := clientcredentials.Config{
		ClientID: id, ClientSecret: strings.TrimRight(string(secret), "\r\n"), TokenURL: s.TokenURL, Scopes: forAutomation(s.Scopes),
	}
	token, err := c.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("sign %s on at %s: %w", id, s.Issuer, err)
	}
	return token.AccessToken, nil
}

// forAutomation leaves out the scopes that only mean something for people (OpenID Connect Core section 5.4 and 11): issuers
// refuse them here.
func forAutomation(scopes []string) (out []string) {
	for _, s := range scopes {
		switch s {
		case "openid", "profile", "email", "offline_access":
		default:
			out = append(out, s)
		}
	}
	return out
}

// readPrivate reads a small file. On Unix others must not be able to.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if exposed(info) {
		return nil, fmt.Errorf("%s can be read by others; chmod 600 it", path)
	}
	if info.Size() > fileLimit {
		return nil, fmt.Errorf("%s has %d bytes, more than a secret can have", path, info.Size())
	}
	return os.ReadFile(path)
}

// sessionPath is the file of one relay's session.
func (p *program) sessionPath(base string) (string, error) {
	dir := p.get(configVariable)
	if dir == "" {
		user, err := os.UserConfigDir()
		if err != nil {
			return "", fmt.Errorf("find the user's configuration folder: %w; set %s", err, configVariable)
		}
		dir = filepath.Join(user, "sallyport-relay")
	}
	sum := sha256.Sum256([]byte(strings.ToLower(strings.TrimSuffix(base, "/"))))
	return filepath.Join(dir, "login-"+hex.EncodeToString(sum[:8])+".json"), nil
}

func (p *program) loadSession(base string) (*session, error) {
	path, err := p.sessionPath(base)
	if err != nil {
		return nil, err
	}
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("nobody is signed on to %s; run: sallyport-relay login %s", base, base)
	}
	if err != nil {
		return nil, fmt.Errorf("read the sign-on: %w", err)
	}
	var s session
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("the sign-on in %s is damaged; run: sallyport-relay login %s", path, base)
	}
	return &s, nil
}

// saveSession writes a new file beside the old one and renames it: there is a whole one at any moment, and only its owner can
// read it.
func (p *program) saveSession(base string, s *session) error {
	path, err := p.sessionPath(base)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("keep the sign-on: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep the sign-on: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".login-*") // 0600
	if err != nil {
		return fmt.Errorf("keep the sign-on: %w", err)
	}
	defer os.Remove(f.Name()) // after the rename there is none
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("keep the sign-on: %w", err)
	}
	return nil
}

func (p *program) removeSession(base string) error {
	path, err := p.sessionPath(base)
	if err != nil {
		return err
	}
	if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("nobody is signed on to %s", base)
	} else if err != nil {
		return fmt.Errorf("delete the sign-on: %w", err)
	}
	return nil
}
