package agent

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"sallyport/agent/state"
	"sallyport/configs"
	"sallyport/internal/signature"
)

const (
	// SignatureSuffix makes the name of a configuration's signature file.
	SignatureSuffix = ".sig"
	signersFile     = "signers.json"
	signersLimit    = 64 << 10
	// signedAs keeps a signature from counting for anything else that the key may sign.
	signedAs = "sallyport agent.yaml v1\n"
)

// SignerName is a public key as policy_signers has it.
func SignerName(key ed25519.PublicKey) string { return signature.Name(key) }

// SignConfig gives the line of a signature file by which a key stands for a configuration.
func SignConfig(key ed25519.PrivateKey, data []byte) string {
	return signature.Sign(key, signedAs, data)
}

// Signers gives the keys that this installation has pinned: one of them must have signed each configuration that it loads.
func Signers(dir state.Dir) ([]string, error) {
	data, err := dir.Read(signersFile, signersLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []string
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("read the pinned signers of the policy: %w", err)
	}
	return list, nil
}

// ForgetSigners unpins all keys.
func ForgetSigners(dir state.Dir) error {
	if err := dir.Remove(signersFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin the signers of the policy: %w", err)
	}
	return nil
}

// ErrUnsigned says that no trusted key has signed a configuration.
var ErrUnsigned = errors.New("no trusted key has signed the configuration")

// ReadSigned reads agent.yaml for an agent that is to run by it. If the state directory has pinned signers, one of them must
// have signed exactly these bytes, whatever the file itself says; if not, one of the file's policy_signers, which are pinned
// then. A signed file with other policy_signers puts them in their place; leaving them out takes nothing away.
func ReadSigned(path string, dir state.Dir) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	pinned, err := Signers(dir)
	if err != nil {
		return nil, err
	}
	if len(pinned) > 0 { // before anything in the file counts
		if err := checkSigned(path, data, pinned); err != nil {
			return nil, err
		}
	}
	c, err := parseFile(path, data)
	if err != nil || len(c.PolicySigners) == 0 || slices.Equal(c.PolicySigners, pinned) {
		return c, err
	}
	if len(pinned) == 0 {
		if err := checkSigned(path, data, c.PolicySigners); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(c.PolicySigners)
	if err == nil {
		err = dir.Write(signersFile, text)
	}
	if err != nil {
		return nil, fmt.Errorf("pin the signers of the policy: %w", err)
	}
	return c, nil
}

func checkSigned(path string, data []byte, signers []string) error {
	f, err := os.Open(path + SignatureSuffix)
	if err != nil {
		return fmt.Errorf("%w: %w (sign it with 'sallyport-agent policy sign')", ErrUnsigned, err)
	}
	defer f.Close()
	sigs, err := io.ReadAll(io.LimitReader(f, signersLimit))
	if err != nil {
		return fmt.Errorf("read the signature: %w", err)
	}
	if signature.By(data, sigs, signedAs, signers) == "" {
		return fmt.Errorf("%w: %s does not fit %s as it is now (sign it with 'sallyport-agent policy sign' by one of: %s)",
			ErrUnsigned, path+SignatureSuffix, path, strings.Join(signers, ", "))
	}
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w; 'sallyport-agent join' writes a first one, 'sallyport-agent config example' shows all settings", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, configs.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return data, nil
}

func parseFile(path string, data []byte) (*Config, error) {
	c, err := ParseConfig(path, data)
	if err != nil {
		return nil, err
	}
	c.text = data
	if err := state.CheckWritable(path); err != nil {
		c.Warnings = append(c.Warnings, fmt.Sprintf("who can write this file decides what may be called inside: %v", err))
	}
	return c, nil
}
