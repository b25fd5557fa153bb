package main

import "context"

// hangups gives nothing: Windows has no such signal.
func hangups(context.Context) (again <-chan struct{}, stop func()) { return nil, func() {} }
