package ntlm

import (
	"encoding/binary"
	"errors"
	"time"
)

// AvID names an AV_PAIR (MS-NLMP section 2.2.2.1).
type AvID uint16

// The AV_PAIRs that this package reads or writes.
const (
	AvEOL             AvID = 0
	AvNbComputerName  AvID = 1
	AvNbDomainName    AvID = 2
	AvDNSComputerName AvID = 3
	AvDNSDomainName   AvID = 4
	AvDNSTreeName     AvID = 5
	AvFlags           AvID = 6
	AvTimestamp       AvID = 7
	AvTargetName      AvID = 9
	AvChannelBindings AvID = 10
)

// avFlagMIC in AvFlags says that the AUTHENTICATE message carries a MIC.
const avFlagMIC = 2

// maxPairs bounds the list: Windows sends seven.
const maxPairs = 64

// A Pair is one AV_PAIR; text is UTF-16LE.
type Pair struct {
	ID    AvID
	Value []byte
}

// Pairs is a target info list, without its terminator.
type Pairs []Pair

// Get gives the first value with that ID.
func (p Pairs) Get(id AvID) ([]byte, bool) {
	for _, x := range p {
		if x.ID == id {
			return x.Value, true
		}
	}
	return nil, false
}

// Text gives a value as text, "" if it is not there.
func (p Pairs) Text(id AvID) string {
	v, _ := p.Get(id)
	s, err := decodeUTF16(v)
	if err != nil {
		return ""
	}
	return s
}

// with gives a copy in which id has this value and no other.
func (p Pairs) with(id AvID, value []byte) Pairs {
	out := make(Pairs, 0, len(p)+1)
	for _, x := range p {
		if x.ID != id {
			out = append(out, x)
		}
	}
	return append(out, Pair{id, value})
}

func (p Pairs) flags() uint32 {
	v, _ := p.Get(AvFlags)
	if len(v) != 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(v)
}

func (p Pairs) timestamp() (uint64, bool) {
	v, ok := p.Get(AvTimestamp)
	if !ok || len(v) != 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(v), true
}

func (p Pairs) marshal() []byte {
	var b []byte
	for _, x := range p {
		b = binary.LittleEndian.AppendUint16(b, uint16(x.ID))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(x.Value)))
		b = append(b, x.Value...)
	}
	return append(b, 0, 0, 0, 0)
}

// parsePairs reads a list up to its terminator; what follows it is passed over, as Windows does. An empty input is an
// empty list.
func parsePairs(b []byte) (Pairs, error) {
	var out Pairs
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, errShort
		}
		id, n := AvID(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
		if id == AvEOL {
			return out, nil
		}
		if len(b) < 4+n {
			return nil, errShort
		}
		if len(out) == maxPairs {
			return nil, errors.New("ntlm: too many AV pairs")
		}
		out = append(out, Pair{id, b[4 : 4+n]})
		b = b[4+n:]
	}
	if out != nil {
		return nil, errors.New("ntlm: AV pairs without an end")
	}
	return nil, nil
}

// epoch1601 is the FILETIME of the Unix epoch, in units of 100 ns since 1601-01-01.
const epoch1601 = 116444736000000000

func fileTime(t time.Time) uint64 {
	return uint64(t.UnixNano()/100 + epoch1601)
}

// unixTime gives ok = false for a FILETIME outside of the years 1970 to 2200.
func unixTime(ft uint64) (t time.Time, ok bool) {
	const year2200 = epoch1601 + 7258118400*1e7
	if ft < epoch1601 || ft > year2200 {
		return time.Time{}, false
	}
	return time.Unix(0, int64(ft-epoch1601)*100), true
}
