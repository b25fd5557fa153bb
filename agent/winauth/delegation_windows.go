package winauth

import (
	"context"
	"errors"
)

// A Delegation acts for people.
type Delegation struct{}

// NewDelegation is not there on Windows yet.
func NewDelegation(Options, DelegationConfig) (*Delegation, error) {
	return nil, errors.New("acting for callers (as: caller) is not in this release on Windows: run the agent for this API on Linux")
}

// For implements the same as elsewhere.
func (*Delegation) For(context.Context, Person) (Credential, error) {
	return nil, errors.New("not in this release on Windows")
}
