// Package loud is how a test says that it cannot run here: never in silence, and not at all where it is meant to run.
//
// It is for what a machine may lack (the Active Directory lab, root, a Node or Java runtime), not for tests that are
// slow or broken. A test that calls it is skipped with a line that says what is missing and why that matters; where
// SALLYPORT_LAB is "required", as in CI, the test fails instead. It is the only place that may call testing.TB.Skip,
// and a test in test/guard sees to that.
//
//	func TestLabKerberos(t *testing.T) {
//		loud.NeedsLab(t)
//		...
package loud

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Missing ends the test because what is not here, with the consequence of that: "a Java caller is not tried".
func Missing(t testing.TB, what, consequence string) {
	t.Helper()
	line := fmt.Sprintf("NOT RUN: %s: %s is missing here: %s", t.Name(), what, consequence)
	if os.Getenv("SALLYPORT_LAB") == "required" {
		t.Fatalf("%s (and SALLYPORT_LAB=required)", line)
	}
	// Skip's own text is not shown without -v; this line is, wherever go test shows output at all.
	fmt.Fprintln(os.Stderr, line)
	t.Skip(line)
}

// NeedsLab ends the test unless it runs inside the Active Directory lab (test/lab/ad/labexec.sh).
func NeedsLab(t testing.TB) {
	t.Helper()
	if os.Getenv("ADLAB_CA") == "" {
		Missing(t, "the Active Directory lab", "run it by test/lab/ad/labexec.sh; Windows authentication is not proved without")
	}
}

// NeedsProgram gives the path of a program that is not part of Go, and ends the test where it is not installed.
func NeedsProgram(t testing.TB, name, consequence string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "the program "+name, consequence)
	}
	return path
}
