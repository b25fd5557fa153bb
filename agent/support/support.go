// Package support makes the archive that an admin sends to who helps: versions, the configuration, what the doctor found, the
// agent's status and its log, and what is on record beside calls.
//
// It decides what goes in and masks it; it asks nobody and reads no file of its own accord: who calls brings the parts. All parts
// go through one Mask, which knows the secrets of this machine by value, so that one that strayed into a log does not leave.
//
//	mask := support.NewMask(values...)
//	names, err := support.Write(file, mask, parts)
package support

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A Part is one file of the archive.
type Part struct {
	Name string // a file name
	Why  string // what it is, in a line
	Text []byte
	// Err says why it could not be had; it is in the archive in place of Text.
	Err error
}

// maxPart bounds a part in bytes. What is longer loses its beginning, because logs end with what matters.
const maxPart = 2 << 20

const readme = `Sallyport agent: what helps to find out what is wrong with an installation.

Made %s on %s.
Passwords, keys, tokens and join strings are not in it: those that this machine knows were searched for in each file and replaced
by ***. Host names, addresses, account names and paths are: look through it before it leaves your company.

`

// Write makes a zip archive of the parts, each masked, with a README that lists them. It gives the names of all files.
func Write(w io.Writer, mask *Mask, host string, now time.Time, parts []Part) (names []string, err error) {
	z := zip.NewWriter(w)
	var list strings.Builder
	fmt.Fprintf(&list, readme, now.UTC().Format(time.RFC3339), host)
	for _, p := range parts {
		fmt.Fprintf(&list, "%-16s %s\n", p.Name, p.Why)
	}
	all := append([]Part{{Name: "README.txt", Text: []byte(list.String())}}, parts...)
	for _, p := range all {
		f, err := z.CreateHeader(&zip.FileHeader{Name: p.Name, Method: zip.Deflate, Modified: now})
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", p.Name, err)
		}
		if _, err := f.Write(mask.Bytes(p.bytes())); err != nil {
			return nil, fmt.Errorf("write %s: %w", p.Name, err)
		}
		names = append(names, p.Name)
	}
	return names, z.Close()
}

func (p Part) bytes() []byte {
	text := p.Text
	if len(text) > maxPart {
		rest := text[len(text)-maxPart:]
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			rest = rest[i+1:]
		}
		text = append(fmt.Appendf(nil, "(the first %d bytes are left out)\n", len(text)-len(rest)), rest...)
	}
	if p.Err != nil {
		return fmt.Appendf(slices.Clip(text), "could not be had: %v\n", p.Err)
	}
	return text
}
