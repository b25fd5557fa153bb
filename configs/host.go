package configs

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
)

// CheckHost says what is wrong with the host and port of a URL, other than that there is no host. A host that no DNS name can be would
// fail at the first connection only, as one that is not there.
func CheckHost(u *url.URL) error {
	if strings.ContainsFunc(u.Hostname(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New(`the host has characters that no DNS name has (write an international name as DNS has it, each such part as "xn--" and what follows)`)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return errors.New("no such port (write 1 to 65535, or leave it out)")
		}
	}
	return nil
}
