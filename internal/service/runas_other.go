//go:build !linux

package service

import (
	"context"
	"errors"
	"io"
)

// RunAs is there on Linux alone.
func RunAs(context.Context, Spec, []string, io.Writer, io.Writer) (int, error) {
	return 0, errors.New("on this system a program cannot be run as a service's account from here: open a console as that account")
}
