package acme

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"time"

	acmeapi "github.com/mholt/acmez/v3/acme"
)

const (
	// hookTimeout is how long one run of the hook may take; DNS often needs minutes until the world sees a change.
	hookTimeout = 5 * time.Minute
	// hookOutput is how much of what the hook prints goes into an error.
	hookOutput = 2 << 10
)

// A hook answers dns-01 through a program of the admin's:
//
//	PROGRAM present _acme-challenge.relay.example.com VALUE    make the TXT record, and return when the world sees it
//	PROGRAM cleanup _acme-challenge.relay.example.com VALUE    take it away
//
// Neither is secret: both stand in the DNS. An exit code other than 0 is a failure, and what was printed is logged.
type hook struct {
	program string
	log     *slog.Logger
}

// Present implements acmez.Solver.
func (h hook) Present(ctx context.Context, c acmeapi.Challenge) error {
	return h.run(ctx, "present", c)
}

// CleanUp implements acmez.Solver.
func (h hook) CleanUp(ctx context.Context, c acmeapi.Challenge) error {
	return h.run(ctx, "cleanup", c)
}

func (h hook) run(ctx context.Context, what string, c acmeapi.Challenge) error {
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, h.program, what, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
	cmd.Stdout, cmd.Stderr = &limited{&said}, &limited{&said}
	cmd.WaitDelay = time.Second // for what the hook has left running with our pipes
	h.log.Debug("the DNS hook is called", "program", h.program, "what", what, "record", c.DNS01TXTRecordName())
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the DNS hook %s %s %s: %w: %s", h.program, what, c.DNS01TXTRecordName(), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// limited keeps the beginning of what is written.
type limited struct{ to *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.to.Write(p[:min(len(p), max(hookOutput-l.to.Len(), 0))])
	return len(p), nil
}
