package update

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

const (
	// MaxPackage bounds a package, and the program in it, in bytes: ten times what they have.
	MaxPackage = 256 << 20
	// maxEntries bounds the entries of an archive that are looked at.
	maxEntries = 10_000
	// mainPackage is what a program of ours was built from.
	mainPackage = "sallyport/cmd/sallyport-agent"
)

// Program takes the program out of a package and makes sure that it is the agent, for this system and architecture. data is
// the package, as Release.Of has found it.
func (p Package) Program(data []byte, goos, goarch string) (program []byte, err error) {
	if p.OS != goos || p.Arch != goarch {
		return nil, fmt.Errorf("it is for %s/%s, this machine needs %s/%s", p.OS, p.Arch, goos, goarch)
	}
	switch p.form {
	case ".tar.gz":
		program, err = fromTar(data)
	case ".zip":
		program, err = fromZip(data)
	default:
		program = data
	}
	if err != nil {
		return nil, fmt.Errorf("unpack it: %w", err)
	}
	return program, inspect(program, goos, goarch)
}

// isProgram says whether an entry of an archive is the program.
func isProgram(name string) bool {
	base := path.Base(strings.ReplaceAll(name, `\`, "/"))
	return base == "sallyport-agent" || base == "sallyport-agent.exe"
}

var (
	errNoProgram = errors.New("it holds no sallyport-agent")
	errTooLarge  = fmt.Errorf("the program in it is larger than %d bytes", MaxPackage)
)

func fromTar(data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	t := tar.NewReader(io.LimitReader(z, 2*MaxPackage))
	for range maxEntries {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeReg && isProgram(h.Name) {
			return whole(t)
		}
	}
	return nil, errNoProgram
}

func fromZip(data []byte) ([]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	for _, f := range z.File {
		if !f.Mode().IsRegular() || !isProgram(f.Name) {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return whole(r)
	}
	return nil, errNoProgram
}

func whole(r io.Reader) ([]byte, error) {
	program, err := io.ReadAll(io.LimitReader(r, MaxPackage+1))
	if err == nil && len(program) > MaxPackage {
		err = errTooLarge
	}
	return program, err
}

// inspect reads what the linker wrote into the program.
func inspect(program []byte, goos, goarch string) error {
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("it is no program of ours: %w", err)
	}
	if info.Path != mainPackage {
		return fmt.Errorf("it is another program: %s", info.Path)
	}
	built := map[string]string{}
	for _, s := range info.Settings {
		built[s.Key] = s.Value
	}
	if built["GOOS"] != goos || built["GOARCH"] != goarch {
		return fmt.Errorf("the program in it is for %s/%s, this machine needs %s/%s", built["GOOS"], built["GOARCH"], goos, goarch)
	}
	return nil
}
