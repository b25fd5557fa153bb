// Command versioninfo gives a program for Windows what the "Details" page of its properties shows, and what installers
// compare: a version resource.
//
//	versioninfo VERSION DESCRIPTION PROGRAM
//
// The program is rewritten in place, before it is signed. The same program gives the same bytes: no time is in it.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/tc-hib/winres"
	"github.com/tc-hib/winres/version"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "versioninfo:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: versioninfo VERSION DESCRIPTION PROGRAM")
	}
	text, description, program := args[0], args[1], args[2]
	info, err := describe(text, description, filepath.Base(program))
	if err != nil {
		return err
	}
	var set winres.ResourceSet
	set.SetVersionInfo(*info)
	old, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := set.WriteToEXE(&out, bytes.NewReader(old)); err != nil {
		return fmt.Errorf("write the version into %s: %w", program, err)
	}
	return os.WriteFile(program, out.Bytes(), 0o755)
}

// english is the language of the texts, en-US.
const english = 0x409

func describe(text, description, file string) (*version.Info, error) {
	numbers, err := numbers(text)
	if err != nil {
		return nil, err
	}
	info := version.Info{FileVersion: numbers, ProductVersion: numbers}
	for _, pair := range [][2]string{
		{version.CompanyName, "Sallyport"},
		{version.FileDescription, description},
		{version.FileVersion, text},
		{version.InternalName, file},
		{version.OriginalFilename, file},
		{version.ProductName, "Sallyport"},
		{version.ProductVersion, text},
	} {
		if err := info.Set(english, pair[0], pair[1]); err != nil {
			return nil, err
		}
	}
	return &info, nil
}

var form = regexp.MustCompile(`^([0-9]+)\.([0-9]+)\.([0-9]+)(-[0-9A-Za-z.]+)?$`)

// numbers gives X.Y.Z-WORD as X.Y.Z.0.
func numbers(text string) (n [4]uint16, err error) {
	parts := form.FindStringSubmatch(text)
	if parts == nil {
		return n, fmt.Errorf("the version %q is not X.Y.Z or X.Y.Z-WORD", text)
	}
	for i := range 3 {
		v, err := strconv.ParseUint(parts[i+1], 10, 16)
		if err != nil {
			return n, fmt.Errorf("the version %q does not fit into what Windows has for it: %w", text, err)
		}
		n[i] = uint16(v)
	}
	return n, nil
}
