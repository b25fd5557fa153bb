// Package nodump keeps a program's memory, with the secrets in it, out of files when it crashes.
package nodump

// Set does nothing: Go's programs keep Windows Error Reporting away from themselves, unless GOTRACEBACK is wer.
func Set() {}
