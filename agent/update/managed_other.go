//go:build !windows

package update

import (
	"context"
	"os/exec"
	"time"
)

// askManager bounds the question to a package manager.
const askManager = 30 * time.Second

// Managed says which package manager a program belongs to, and how that one updates it; empty for none. It asks those that are
// there: their own record is what an upgrade by them goes by.
func Managed(ctx context.Context, program string) (manager, how string) {
	ctx, cancel := context.WithTimeout(ctx, askManager)
	defer cancel()
	for _, m := range []struct {
		command     []string
		manager, do string
	}{
		{[]string{"dpkg-query", "--search", program}, "dpkg", "apt install ./sallyport-agent_*.deb"},
		{[]string{"rpm", "--query", "--file", program}, "rpm", "dnf install ./sallyport-agent-*.rpm"},
	} {
		path, err := exec.LookPath(m.command[0])
		if err == nil && exec.CommandContext(ctx, path, m.command[1:]...).Run() == nil {
			return m.manager, m.do
		}
	}
	return "", ""
}
