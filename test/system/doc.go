// Package system tests Sallyport as its users have it: the real binaries, each a process of its own, set up by the
// commands of the README, with real callers in front and real upstreams behind. It imports nothing of the product.
//
// A Box (box_test.go) is one relay and its agents in a temporary directory, on ports of loopback, with a throw-away CA.
// It captures all output, shows it when a test fails, and looks at the end whether any secret that was used stands in an
// output, a log or an argument list. Under -race the binaries are built with the race detector too, and a race that they
// report fails the test.
//
// Tests whose names begin with TestLab need the Active Directory lab (test/lab/ad) and say loudly when it is not there.
// What a package does alone is tested beside the package. The tests are for Linux: they freeze, kill and inspect
// processes by way of /proc.
package system
