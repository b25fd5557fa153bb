//go:build !unix

package tunnel

import "time"

// processorTime is measured on Unix alone.
func processorTime() time.Duration { return 0 }
