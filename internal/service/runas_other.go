//go:build !linux && !windows

package service

import (
	"context"
	"errors"
	"io"
	"time"
)

// RunAs is not there on this system.
func RunAs(context.Context, Spec, []string, io.Writer, io.Writer) (int, error) {
	return 0, errors.New("on this system a program cannot be run as a service's account from here: open a console as that account")
}

// Journal is not there on this system.
func Journal(context.Context, Spec, time.Duration) ([]byte, error) {
	return nil, errors.New("on this system the log is where the program's standard error goes")
}
