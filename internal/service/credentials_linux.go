package service

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// loaded are the settings by which a unit has systemd hand credentials over from files. SetCredential has the secret in the unit and
// is not carried: an argument of systemd-run is seen by others.
var loaded = [...]string{"LoadCredential", "LoadCredentialEncrypted"}

// credentials gives the credentials of the service as arguments of systemd-run. 'systemctl show' does not print them.
func credentials(ctx context.Context, s Spec) ([]string, error) {
	out, err := command(ctx, "busctl", append([]string{
		"--json=short", "get-property", "org.freedesktop.systemd1", unitObject(s.Name + ".service"), "org.freedesktop.systemd1.Service",
	}, loaded[:]...)...)
	if err != nil {
		return nil, fmt.Errorf("ask systemd about the credentials of %s: %w", s.Name, err)
	}
	return credentialsOf(out)
}

// credentialsOf reads what busctl says: a line for each of loaded, with pairs of a name and a path.
func credentialsOf(out string) (args []string, err error) {
	lines := json.NewDecoder(strings.NewReader(out))
	for _, key := range loaded {
		var line struct {
			Data [][2]string `json:"data"`
		}
		if err := lines.Decode(&line); err != nil {
			return nil, fmt.Errorf("read what systemd says of %s: %w", key, err)
		}
		for _, c := range line.Data {
			args = append(args, "--property="+key+"="+c[0]+":"+c[1])
		}
	}
	return args, nil
}

// unitObject is the unit's path on the bus: all but letters and digits in hexadecimal.
func unitObject(unit string) string {
	var b strings.Builder
	b.WriteString("/org/freedesktop/systemd1/unit/")
	for i := range len(unit) {
		c := unit[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || i > 0 && '0' <= c && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}
