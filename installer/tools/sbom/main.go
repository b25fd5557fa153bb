// Command sbom writes the bill of materials of a Go program, as CycloneDX 1.6 in JSON, from what the Go toolchain recorded
// in the program itself: the modules that are really linked, with the checksums that go.sum held them to.
//
//	sbom VERSION PROGRAM > PROGRAM.cdx.json
//
// The same program gives the same bytes: there is no serial number, and the time is SOURCE_DATE_EPOCH's.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if err := run(os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(args []string, getenv func(string) string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: sbom VERSION PROGRAM > PROGRAM.cdx.json")
	}
	version, program := args[0], args[1]
	seconds, err := strconv.ParseInt(getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH gives the time of the bill, in seconds since 1970: %w", err)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return fmt.Errorf("read the modules of %s: %w", program, err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("read %s: %w", program, err)
	}
	bom := bill(info, version, strings.TrimSuffix(filepath.Base(program), ".exe"), sha256.Sum256(content))
	bom.Metadata.Timestamp = time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	encoder := cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true)
	if err := encoder.EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return fmt.Errorf("write the bill of %s: %w", program, err)
	}
	return nil
}

// bill is the program with the modules below it; the program depends on each, because the toolchain does not record which
// module brought which.
func bill(info *debug.BuildInfo, version, name string, sum [sha256.Size]byte) *cdx.BOM {
	main := cdx.Component{
		BOMRef: "pkg:generic/" + name + "@" + version, PackageURL: "pkg:generic/" + name + "@" + version,
		Type: cdx.ComponentTypeApplication, Name: name, Version: version,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}}, Properties: settings(info),
	}
	std := strings.TrimPrefix(info.GoVersion, "go")
	parts := []cdx.Component{{
		BOMRef: "pkg:golang/std@" + std, PackageURL: "pkg:golang/std@" + std, Type: cdx.ComponentTypeLibrary, Name: "std",
		Version: std, Description: "Go's standard library",
	}}
	for _, m := range info.Deps {
		parts = append(parts, library(m))
	}
	refs := make([]string, len(parts))
	for i, p := range parts {
		refs[i] = p.BOMRef
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &main}
	bom.Components = &parts
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	return bom
}

func library(m *debug.Module) cdx.Component {
	if m.Replace != nil {
		m = m.Replace
	}
	url := "pkg:golang/" + m.Path + "@" + m.Version
	c := cdx.Component{
		BOMRef: url, PackageURL: url, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version,
		Scope: cdx.ScopeRequired,
	}
	// "h1:" is SHA-256 over the module's files, as go.sum has it.
	if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(sum) == sha256.Size {
		c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
	}
	return c
}

// settings says how the program was built, as far as it matters to who wants to build it again.
func settings(info *debug.BuildInfo) *[]cdx.Property {
	list := []cdx.Property{{Name: "build:go", Value: info.GoVersion}}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "CGO_ENABLED", "-tags", "-trimpath", "vcs.revision", "vcs.modified":
			list = append(list, cdx.Property{Name: "build:" + s.Key, Value: s.Value})
		}
	}
	return &list
}
