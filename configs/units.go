package configs

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Size is a number of bytes. In a file: 4096, "100MB" (decimal) or "64KiB" (binary).
type Size int64

type unit struct {
	name string
	size Size
}

// units, the longest names first among those with a common ending.
func units() []unit {
	return []unit{
		{"KiB", 1 << 10},
		{"MiB", 1 << 20},
		{"GiB", 1 << 30},
		{"TiB", 1 << 40},
		{"kB", 1e3},
		{"KB", 1e3},
		{"MB", 1e6},
		{"GB", 1e9},
		{"TB", 1e12},
		{"B", 1},
		{"", 1},
	}
}

// ParseSize reads a size as files have it.
func ParseSize(s string) (Size, error) {
	for _, u := range units() {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimRight(digits, " "), 10, 63)
		if err != nil || n > math.MaxInt64/uint64(u.size) {
			break
		}
		return Size(n) * u.size, nil
	}
	return 0, fmt.Errorf("%q is not a size (write bytes, kB, MB, GB, or KiB, MiB, GiB: 100MB)", s)
}

// UnmarshalText reads what ParseSize reads.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := ParseSize(string(text))
	if err == nil {
		*s = n
	}
	return err
}

// String gives the size in the largest unit that needs no fraction, decimal ones preferred: "100MB", "64KiB", "4097B".
func (s Size) String() string {
	best := unit{"B", 1}
	for _, u := range units() {
		if u.size > best.size && s != 0 && s%u.size == 0 {
			best = u
		}
	}
	return strconv.FormatInt(int64(s/best.size), 10) + best.name
}

// JSONSchema describes the type for package configs/schema.
func (Size) JSONSchema() map[string]any {
	return map[string]any{"type": []string{"string", "integer"}, "pattern": `^[0-9]+ *([kKMGT]i?B|B)?$`, "minimum": 0}
}

// ParseDuration reads a duration as files have it: "230s", "1h30m", "250ms", and "7d" for days of 24 hours. There are no
// negative ones, and the unit must be there.
func ParseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 63)
		if err == nil && n <= math.MaxInt64/uint64(24*time.Hour) {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || strings.HasPrefix(s, "+") {
		return 0, fmt.Errorf("%q is not a duration (write a number and its unit, ms, s, m, h or d: 230s)", s)
	}
	return d, nil
}

// A Span is a time as people give it to a command, as ParseDuration reads it; it is a pflag.Value.
type Span time.Duration

// Set reads it.
func (s *Span) Set(text string) error {
	d, err := ParseDuration(text)
	if err == nil {
		*s = Span(d)
	}
	return err
}

// String is empty for none, so that help shows no default then.
func (s *Span) String() string {
	if *s == 0 {
		return ""
	}
	return time.Duration(*s).String()
}

// Type is what help calls it.
func (s *Span) Type() string { return "duration" }
