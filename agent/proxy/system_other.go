//go:build !windows

package proxy

// System is what the operating system says. Only Windows has settings of its own; elsewhere the environment is all there
// is, and it gives nil.
func System() Func { return nil }
