package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sallyport/agent"
	"sallyport/internal/signature"
)

func (p *program) signCommands() []*cobra.Command {
	keygen := &cobra.Command{
		Use: "keygen FILE", Short: "Make a key that signs agent.yaml", Args: exactly(1, 1, ""),
		Long:    "Writes a new private key (Ed25519, PEM) to FILE, which must not exist, and prints the line for policy_signers. Keep the key off the agent's machine.",
		Example: "  sallyport-agent policy keygen policy-key.pem",
		RunE: does(func(_ context.Context, args []string) error {
			return p.makeSigner(args[0], "policy_signers:\n  - %s\n")
		}),
	}
	var key string
	sign := &cobra.Command{
		Use: "sign", Short: "Sign agent.yaml", Args: exactly(0, 0, ""),
		Long:    "Checks the configuration and writes its signature beside it, to agent.yaml.sig. Any change of a byte needs a new one. Copy both files, the signature first.",
		Example: "  sallyport-agent policy sign --config agent.yaml --key policy-key.pem",
		RunE:    does(func(context.Context, []string) error { return p.sign(key) }),
	}
	sign.Flags().StringVar(&key, "key", "", "the file with the private key")
	_ = sign.MarkFlagRequired("key")
	var forget bool
	signers := &cobra.Command{
		Use: "signers", Short: "Show or forget the keys that must have signed agent.yaml", Args: exactly(0, 0, ""),
		Long:    "Shows the keys that this installation has pinned in its state directory. --forget unpins them: from then on an unsigned file is loaded, unless it has policy_signers.",
		Example: "  sallyport-agent policy signers\n  sallyport-agent policy signers --forget",
		RunE:    does(func(context.Context, []string) error { return p.signers(forget) }),
	}
	signers.Flags().BoolVar(&forget, "forget", false, "unpin all keys")
	return []*cobra.Command{keygen, sign, signers}
}

// makeSigner writes a new private key, and prints the public one as the configuration has it.
func (p *program) makeSigner(path, form string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	if err := errors.Join(pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the key: %w", err), os.Remove(path)) // half a key keeps the next attempt from its place
	}
	_, err = fmt.Fprintf(p.out, form, signature.Name(public))
	return err
}

func (p *program) sign(keyFile string) error {
	key, err := signingKey(keyFile, "policy")
	if err != nil {
		return err
	}
	data, err := os.ReadFile(p.config)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if _, err := agent.ParseConfig(p.config, data); err != nil {
		return err
	}
	if err := os.WriteFile(p.config+agent.SignatureSuffix, []byte(agent.SignConfig(key, data)), 0o644); err != nil {
		return fmt.Errorf("write the signature: %w", err)
	}
	_, err = fmt.Fprintf(p.out, "signed %s by %s\n", p.config, signature.Name(key.Public().(ed25519.PublicKey)))
	return err
}

// signingKey reads a private key that 'policy keygen' or 'release keygen' has made.
func signingKey(file, command string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("read the key: %s has no PEM block (make one with 'sallyport-agent %s keygen')", file, command)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("read the key: %s has no Ed25519 private key (make one with 'sallyport-agent %s keygen')", file, command)
	}
	return key, nil
}

func (p *program) signers(forget bool) error {
	c, err := agent.ReadConfig(p.config)
	if err != nil {
		return err
	}
	dir, err := p.stateDir(c)
	if err != nil {
		return err
	}
	list, err := agent.Signers(dir)
	if err != nil && !forget {
		return err
	}
	if len(list) == 0 {
		_, err = fmt.Fprintln(p.out, "no key is pinned")
		return err
	}
	word := "pinned"
	if forget {
		if err := agent.ForgetSigners(dir); err != nil {
			return err
		}
		word = "no longer pinned:"
	}
	for _, one := range list {
		fmt.Fprintf(p.out, "%s %s\n", word, one)
	}
	return nil
}
