package agent

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"sallyport/agent/winauth/lockout"
)

// FuzzLogonOf wants of any Authorization field either the logon that it holds, byte for byte, or an error that quotes nothing
// of it.
func FuzzLogonOf(f *testing.F) {
	for _, logon := range []string{
		`CORP\anna:pw`, "anna@corp.example:pw:with:colons", `CORP\:pw`, `\anna:pw`, "@corp:pw", `A\B\c:pw`, "anna:pw", `CORP\anna:`, "", ":",
		"CORP＼anna:pw", "anna＠corp:pw", "CORP\\an\x00na:pw", "CORP\\anna:p\xffw", `CORP\...:pw`, "a@b@c:pw",
	} {
		f.Add("Basic " + base64.StdEncoding.EncodeToString([]byte(logon)))
	}
	f.Add("basic Q09SUFxhbm5hOnB3")
	f.Add("Basic Q09SUFxhbm5hOnB3,")
	f.Add("Bearer e30.e30.")
	f.Fuzz(func(t *testing.T, field string) {
		name, password, err := logonOf(&http.Request{Header: http.Header{"Authorization": {field}}})
		if err != nil {
			if name != "" || password != "" {
				t.Fatalf("an error with a logon: %q", name)
			}
			if len(field) > 40 && strings.Contains(err.Error(), field[6:]) {
				t.Fatalf("the error quotes the field: %v", err)
			}
			return
		}
		raw, err := base64.StdEncoding.DecodeString(field[len("Basic "):])
		if err != nil || !strings.EqualFold(field[:6], "Basic ") || string(raw) != name+":"+password {
			t.Fatalf("%q is not the logon %q", field, name)
		}
		if password == "" || len(name) > maxLogonName || len(password) > maxLogonPassword || !strings.ContainsAny(name, `\@`) {
			t.Errorf("a logon that Windows would not take: %q", name)
		}
		for _, s := range []string{name, password} {
			if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("a logon with bytes that logs and domains do not take")
			}
		}
		account := lockout.Account(name)
		if account == "" {
			t.Errorf("%q counts for no account", name)
		}
		// Guesses must count for one account, however its name is spelled.
		for _, other := range []string{strings.ToUpper(name), strings.ToLower(name)} {
			if !strings.EqualFold(other, name) {
				continue // letters whose case is not undone by the other, as ß
			}
			if got := lockout.Account(other); got != account {
				t.Errorf("%q counts for %q, and %q for %q", name, account, other, got)
			}
		}
	})
}
