package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"sallyport/agent/state"
)

// maxLine bounds a line that is read, in bytes; a longer one is none of ours.
const maxLine = 64 << 10

// Verdicts gives each decision about a call that is on record to each, the oldest first, and how many lines could not be read.
// It works beside an agent that writes. A line that a crash cut off, and fields of a later format, do not stop it; whether the
// record is whole is not looked at.
func Verdicts(ctx context.Context, dir state.Dir, each func(Event)) (skipped int, err error) {
	sub, err := dir.Sub(subdirectory)
	if err != nil {
		return 0, fmt.Errorf("open the audit record: %w", err)
	}
	names, err := asides(sub)
	if err != nil {
		return 0, fmt.Errorf("list the audit record: %w", err)
	}
	for _, name := range append(names, current) {
		n, err := verdictsOf(ctx, sub.Path(name), each)
		skipped += n
		if err != nil && !errors.Is(err, os.ErrNotExist) { // set aside or deleted a moment ago
			return skipped, fmt.Errorf("read the audit record: %w", err)
		}
	}
	return skipped, nil
}

func verdictsOf(ctx context.Context, path string, each func(Event)) (skipped int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, maxLine)
	for ctx.Err() == nil {
		line, err := r.ReadSlice('\n')
		var e Event
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = r.ReadSlice('\n')
			}
			skipped++
		case len(line) == 0 && err == io.EOF:
			return skipped, nil
		case json.Unmarshal(line, &e) != nil:
			skipped++
		case e.Verdict != "" && e.API != "" && e.Method != "" && e.Kind != Definition:
			each(e)
		}
		if err == io.EOF {
			return skipped, nil
		} else if err != nil {
			return skipped, err
		}
	}
	return skipped, context.Cause(ctx)
}
