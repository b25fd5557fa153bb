//go:build !linux && !windows

package service

import (
	"context"
	"errors"
	"io"
)

const exampleAccount = "svc-sallyport"

const installHelp = `The program installs itself as a service on Linux and Windows alone.`

var errSystem = errors.New("the program installs itself as a service on Linux and Windows alone")

// Install has nothing to do here; as the others, it says so.
func Install(context.Context, io.Writer, Spec, bool) error { return errSystem }

// Uninstall is not there on this system.
func Uninstall(context.Context, io.Writer, Spec, bool) error { return errSystem }

// Start is not there on this system.
func Start(context.Context, io.Writer, Spec, bool) error { return errSystem }

// Stop is not there on this system.
func Stop(context.Context, io.Writer, Spec, bool) error { return errSystem }

// Restart is not there on this system.
func Restart(context.Context, io.Writer, Spec, bool) error { return errSystem }

// Ask is not there on this system.
func Ask(context.Context, Spec) (Status, error) { return Status{}, errSystem }

func ownProgram() (string, error) { return "", errSystem }

func checkProgram(string) error { return errSystem }
