package update

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sallyport/internal/signature"
)

const (
	// SumsFile has the SHA-256 of each file of a release, as sha256sum writes them; SignatureFile has signatures of it.
	SumsFile      = "SHA256SUMS"
	SignatureFile = SumsFile + ".sig"
	// MaxSums bounds a SumsFile, in bytes.
	MaxSums = 1 << 20
	// purpose keeps a release's signature from counting for anything else, and others' for a release.
	purpose = "sallyport release v1\n"
)

// ErrUnsigned says that no trusted key stands for a file.
var ErrUnsigned = errors.New("no trusted key has signed it")

// A Package is one file of a release that the agent can update itself from.
type Package struct {
	Name    string // of the file, as the release lists it
	Version string
	OS      string // as Go names it
	Arch    string
	form    string // ".tar.gz", ".zip", or the program itself
	sum     [sha256.Size]byte
}

// A Release is a list of files that a trusted key has signed.
type Release struct {
	// Signer is the key that stands for it.
	Signer   string
	packages []Package
}

// Sign gives the line of a SignatureFile by which a key stands for a SumsFile.
func Sign(key ed25519.PrivateKey, sums []byte) (string, error) {
	if _, err := parseSums(sums); err != nil {
		return "", err
	}
	return signature.Sign(key, purpose, sums), nil
}

// ReadRelease reads a SumsFile, if one of the signers has signed exactly these bytes; before that, nothing in it counts.
func ReadRelease(sums, signatures []byte, signers []string) (*Release, error) {
	by := signature.By(sums, signatures, purpose, signers)
	if by == "" {
		return nil, fmt.Errorf("%s: %w (trusted are: %s)", SumsFile, ErrUnsigned, strings.Join(signers, ", "))
	}
	list, err := parseSums(sums)
	return &Release{Signer: by, packages: list}, err
}

// packageName is how installer/build.sh names programs and archives of the agent.
var packageName = regexp.MustCompile(`^sallyport-agent-(\d+\.\d+\.\d+(?:-[0-9A-Za-z.]+)?)-(linux|windows)-(amd64|arm64)(\.exe|\.tar\.gz|\.zip)?$`)

// parseSums gives the packages of a SumsFile; it lists other files too.
func parseSums(text []byte) (list []Package, err error) {
	if len(text) > MaxSums {
		return nil, fmt.Errorf("%s has more than %d bytes", SumsFile, MaxSums)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		digest, name, _ := strings.Cut(line, " ")
		sum, err := hex.DecodeString(digest)
		if err != nil || len(sum) != sha256.Size || len(name) < 2 {
			return nil, fmt.Errorf("%s:%d: not a line of sha256sum", SumsFile, n)
		}
		m := packageName.FindStringSubmatch(name[1:]) // after a blank, or a star for a binary file
		if m == nil {
			continue
		}
		list = append(list, Package{Name: m[0], Version: m[1], OS: m[2], Arch: m[3], form: m[4], sum: [sha256.Size]byte(sum)})
	}
	return list, nil
}

// Of gives the package that these bytes are, whatever the file is called now.
func (r *Release) Of(data []byte) (Package, error) {
	sum := sha256.Sum256(data)
	for _, p := range r.packages {
		if p.sum == sum {
			return p, nil
		}
	}
	return Package{}, fmt.Errorf("it is not as %s has it: the download is damaged, of another release, or was changed; "+
		"the release's .tar.gz, .zip and bare programs of the agent can be installed", SumsFile)
}

// For gives the packages for a machine, the newest first.
func (r *Release) For(goos, goarch string) (list []Package) {
	for _, p := range r.packages {
		if p.OS == goos && p.Arch == goarch {
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(a, b Package) int { return -Compare(a.Version, b.Version) })
	return list
}

// IsVersion says whether a version has an order, as those of builds without a version have not.
func IsVersion(v string) bool {
	m := packageName.FindStringSubmatch("sallyport-agent-" + v + "-linux-amd64")
	return m != nil && m[1] == v
}

// Compare orders versions: 1.2.0 before 1.10.0, and 1.2.0-rc2 before 1.2.0-rc10 before 1.2.0.
func Compare(a, b string) int {
	a, wordA, preA := strings.Cut(a, "-")
	b, wordB, preB := strings.Cut(b, "-")
	if c := natural(a, b); c != 0 {
		return c
	}
	if preA != preB { // what leads to a release comes before it
		if preA {
			return -1
		}
		return 1
	}
	return natural(wordA, wordB)
}

// natural compares piece by piece, numbers by their value.
func natural(a, b string) int {
	for a != "" && b != "" {
		var x, y string
		x, a = piece(a)
		y, b = piece(b)
		n, errN := strconv.ParseUint(x, 10, 64)
		m, errM := strconv.ParseUint(y, 10, 64)
		c := cmp.Compare(x, y)
		if errN == nil && errM == nil {
			c = cmp.Compare(n, m)
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// piece cuts off the digits, or what is none, that a text begins with.
func piece(s string) (first, rest string) {
	digit := func(i int) bool { return s[i] >= '0' && s[i] <= '9' }
	i := 1
	for i < len(s) && digit(i) == digit(0) {
		i++
	}
	return s[:i], s[i:]
}
