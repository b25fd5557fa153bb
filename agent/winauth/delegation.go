package winauth

import "fmt"

// A Person is who was proved to call, by the names that the directory inside knows: a SID, a user principal name, or both.
type Person struct{ SID, UPN string }

func (p Person) String() string {
	if p.UPN != "" {
		return p.UPN
	}
	return p.SID
}

// DelegationConfig says which account acts for people, and for whom.
type DelegationConfig struct {
	// Account is the account that acts, with a password or a keytab. With an empty User it is Service's.
	Account Account
	Service ServiceSource
	// AllowGroups, if there are any, are those of which a person must be in one; DenyGroups those of which in none: SIDs, or
	// names ("CORP\\Orders") that the directory is asked for.
	AllowGroups, DenyGroups []string
	// UPNSuffixes, if there are any, are the ends of user principal names that count ("corp.example").
	UPNSuffixes []string
}

// A PersonError says that a person is not acted for, and why, in words for the admin. It is never shown to callers.
type PersonError struct {
	Person Person
	Reason string
	Err    error // may be nil
}

func (e *PersonError) Error() string {
	s := fmt.Sprintf("%s is not acted for: %s", e.Person, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *PersonError) Unwrap() error { return e.Err }
