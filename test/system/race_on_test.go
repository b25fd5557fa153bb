//go:build linux && race

package system

// raceEnabled says whether this test was built with the race detector; the binaries then are too.
const raceEnabled = true
