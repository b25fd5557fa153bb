package service

import (
	"context"
	"slices"
	"strings"
)

// arcGroup is the group to which Azure's Connected Machine agent gives tokens of the machine's identity; it makes the group when it is
// installed. https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication
const arcGroup = "himds"

const arcAbsent = "There is no group " + arcGroup + " yet, which may ask Azure Arc for tokens: Azure's Connected Machine agent makes it; install that, then run 'service install' once more."

// planArc has the account be one that may ask Azure Arc for tokens, where the configuration wants them. A group counts from the
// next start of the service. absent says that the machine has no such group.
func planArc(ctx context.Context, s Spec) (steps []step, absent bool) {
	if !s.Arc {
		return nil, false
	}
	if _, err := command(ctx, "getent", "group", arcGroup); err != nil {
		return nil, true
	}
	if groups, err := command(ctx, "id", "--name", "--groups", s.Account); err == nil && slices.Contains(strings.Fields(groups), arcGroup) {
		return nil, false
	}
	return []step{{"let " + s.Account + " ask Azure Arc for tokens (the group " + arcGroup + ")", func(ctx context.Context) error {
		_, err := command(ctx, "usermod", "--append", "--groups", arcGroup, s.Account)
		return err
	}}}, false
}
