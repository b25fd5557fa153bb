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

// Verdicts gives each decision about a call that is on record to each, as Events does.
func Verdicts(ctx context.Context, dir state.Dir, each func(Event)) (skipped int, err error) {
	return Events(ctx, dir, func(_ []byte, e Event) error {
		if e.Verdict != "" && e.API != "" && e.Method != "" && e.Kind != Definition {
			each(e)
		}
		return nil
	})
}

// Events gives all that is on record to each, the oldest first, with its line, which is valid during the call, and how many
// lines could not be read. An error of each ends it. It works beside an agent that writes. A line that a crash cut off, and fields of a later format, do not stop it; whether the
// record is whole is not looked at.
func Events(ctx context.Context, dir state.Dir, each func([]byte, Event) error) (skipped int, err error) {
	sub, err := dir.Sub(subdirectory)
	if err != nil {
		return 0, fmt.Errorf("open the audit record: %w", err)
	}
	names, err := asides(sub)
	if err != nil {
		return 0, fmt.Errorf("list the audit record: %w", err)
	}
	for _, name := range append(names, current) {
		n, err := eventsOf(ctx, sub.Path(name), each)
		skipped += n
		if err != nil && !errors.Is(err, os.ErrNotExist) { // set aside or deleted a moment ago
			return skipped, fmt.Errorf("read the audit record: %w", err)
		}
	}
	return skipped, nil
}

func eventsOf(ctx context.Context, path string, each func([]byte, Event) error) (skipped int, err error) {
	f, err := openToRead(path)
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
		default:
			if err := each(line, e); err != nil {
				return skipped, err
			}
		}
		if err == io.EOF {
			return skipped, nil
		} else if err != nil {
			return skipped, err
		}
	}
	return skipped, context.Cause(ctx)
}
