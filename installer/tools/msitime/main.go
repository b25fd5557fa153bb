// Command msitime sets both times in the summary of packages for Windows Installer to SOURCE_DATE_EPOCH. The tools that make
// such packages write the time of day there whenever they touch one, so that no two were ever the same.
//
//	msitime PACKAGE
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
)

func main() {
	if err := run(os.Args[1:], os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "msitime:", err)
		os.Exit(1)
	}
}

func run(args []string, getenv func(string) string) error {
	if len(args) != 1 {
		return errors.New("usage: msitime PACKAGE")
	}
	seconds, err := strconv.ParseInt(getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	if err := set(data, seconds); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return os.WriteFile(args[0], data, 0o644)
}

// The summary is a property set ([MS-OLEPS] 2.21): a header with one section, whose format ID this is, and the section's offset;
// the section is its size, the number of properties, for each its ID and offset in the section, and their values.
var summary = []byte{0xE0, 0x85, 0x9F, 0xF2, 0xF9, 0x4F, 0x68, 0x10, 0xAB, 0x91, 0x08, 0x00, 0x2B, 0x27, 0xB3, 0xD9}

const (
	created, saved = 12, 13 // PIDSI_CREATE_DTM, PIDSI_LASTSAVE_DTM
	filetime       = 0x40   // VT_FILETIME
	header         = 28     // what lies before the format ID
	most           = 64     // properties; a summary has 14
	epoch          = 11644473600
)

// set changes the times where they are. A summary is smaller than a sector of the file, or its sectors follow each other: if
// they do not, the offsets lead nowhere and it fails.
func set(data []byte, seconds int64) error {
	at := bytes.Index(data, summary)
	if at < header || bytes.Contains(data[at+1:], summary) {
		return errors.New("it has not exactly one summary")
	}
	start := at - header
	number := func(at int) (int, error) {
		if at < 0 || at+4 > len(data) {
			return 0, errors.New("its summary is cut off")
		}
		return int(binary.LittleEndian.Uint32(data[at:])), nil
	}
	offset, err := number(at + len(summary))
	if err != nil {
		return err
	}
	section := start + offset
	count, err := number(section + 4)
	if err != nil {
		return err
	}
	found := 0
	for i := range min(count, most) {
		id, err := number(section + 8 + 8*i)
		if err != nil {
			return err
		}
		if id != created && id != saved {
			continue
		}
		value, err := number(section + 12 + 8*i)
		if err != nil {
			return err
		}
		value += section
		if kind, err := number(value); err != nil || kind != filetime || value+12 > len(data) {
			return fmt.Errorf("property %d of its summary is no time", id)
		}
		binary.LittleEndian.PutUint64(data[value+4:], uint64(seconds+epoch)*1e7)
		found++
	}
	if found != 2 {
		return fmt.Errorf("its summary has %d times instead of 2", found)
	}
	return nil
}
