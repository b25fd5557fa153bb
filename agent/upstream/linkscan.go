package upstream

import (
	"bytes"
	"encoding/json"
)

const (
	// maxLinkDepth bounds how deep a body may nest; beyond it a body passes as it is.
	maxLinkDepth = 512
	// maxLinkName bounds the names of members that are compared, maxLinkText the values that may be links, in bytes.
	maxLinkName = 512
	maxLinkText = 16 << 10
)

var byteOrderMark = []byte("\xef\xbb\xbf")

// A linkScanner reads JSON byte by byte, wherever it is cut into pieces, and hands it on with some strings replaced. It holds
// a value that may be a link until its end, and nothing else: its memory does not grow with the body. From the first byte on
// that JSON does not have, it hands on everything as it is.
type linkScanner struct {
	links  *links
	paths  []linkPath
	public string

	state  scanState
	stack  []level
	spare  [][]positions // of levels that have ended
	value  []positions   // of the value that comes next
	key    []byte        // its name, as it is spelled
	held   []byte        // a value that may be a link, from its quote on
	hold   bool
	escape int    // 1: behind a backslash; 2 to 5: so many hex digits less one are still to come
	rest   string // of a literal
	number numberState
	mark   int // bytes of the byte order mark that were seen
}

// A level is a mapping or a list that has begun.
type level struct {
	isList bool
	at     []positions
}

type scanState uint8

const (
	wantValue  scanState = iota
	wantFirst            // of a list: a value or its end
	wantName             // of a mapping, behind a comma
	wantMember           // of a mapping: a name or its end
	inName               // and the others: in the middle of it
	wantColon
	inText
	inLiteral
	inNumber
	wantNext // a comma or the end of the mapping or list
	ended    // the value of the root is whole
	lost     // it is no JSON
)

type numberState uint8

const (
	numMinus numberState = iota
	numZero
	numInt
	numDot
	numFraction
	numE
	numSign
	numExponent
)

func newLinkScanner(l *links, paths []linkPath, public string) *linkScanner {
	s := &linkScanner{links: l, paths: paths, public: public}
	s.value = make([]positions, len(paths))
	for i, p := range paths {
		s.value[i] = p.skip(1)
	}
	return s
}

// feed takes a piece of the body and appends to out what can go on.
func (s *linkScanner) feed(out, in []byte) []byte {
	for i := 0; i < len(in); {
		if s.state == lost {
			return append(out, in[i:]...)
		}
		if s.state == inText && !s.hold && s.escape == 0 {
			n := plainText(in[i:])
			out = append(out, in[i:i+n]...)
			if i += n; i == len(in) {
				break
			}
		}
		c := in[i]
		if s.state == inNumber && !s.digit(c) {
			continue // the byte behind a number is the next token's
		}
		held := s.held != nil
		if !s.step(c) {
			out = append(out, s.held...)
			s.held, s.state = nil, lost
			continue
		}
		switch i++; {
		case s.held == nil && !held:
			out = append(out, c)
		case s.state != inText: // it has just ended
			out = s.replace(out, append(s.held, c))
			s.held = nil
		case len(s.held) >= maxLinkText:
			out = append(append(out, s.held...), c)
			s.held, s.hold = nil, false
		default:
			s.held = append(s.held, c)
		}
	}
	return out
}

// plainText is how many bytes of a string mean nothing else.
func plainText(b []byte) int {
	for i, c := range b {
		if c == '"' || c == '\\' || c < ' ' {
			return i
		}
	}
	return len(b)
}

// end gives what is still held when the body has ended.
func (s *linkScanner) end(out []byte) []byte {
	out = append(out, s.held...)
	s.held, s.state = nil, lost
	return out
}

// step takes one byte; false if JSON does not have it here.
func (s *linkScanner) step(c byte) bool {
	switch s.state {
	case inText, inName:
		return s.text(c)
	case inNumber:
		return true // digit has taken it
	case inLiteral:
		if s.rest == "" || s.rest[0] != c {
			return false
		}
		if s.rest = s.rest[1:]; s.rest == "" {
			s.finish()
		}
		return true
	}
	if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
		return s.mark == 0 || s.mark == len(byteOrderMark)
	}
	switch s.state {
	case wantValue, wantFirst:
		return s.begin(c)
	case wantName, wantMember:
		if c == '"' {
			s.state, s.key = inName, s.key[:0]
			return true
		}
		return c == '}' && s.state == wantMember && s.close()
	case wantColon:
		s.state = wantValue
		return c == ':'
	case wantNext:
		return s.next(c)
	}
	return false
}

// begin takes the first byte of a value.
func (s *linkScanner) begin(c byte) bool {
	if len(s.stack) == 0 && s.mark < len(byteOrderMark) && c == byteOrderMark[s.mark] {
		s.mark++
		return true
	}
	switch {
	case s.mark != 0 && s.mark != len(byteOrderMark):
		return false
	case c == ']' && s.state == wantFirst:
		return s.close()
	case c == '"':
		s.state = inText
		if s.hold = s.wanted(); s.hold {
			s.held = make([]byte, 0, 256)
		}
		return true
	case c == '{' || c == '[':
		return s.open(c == '[')
	case c == '-' || c >= '0' && c <= '9':
		s.state, s.number = inNumber, numInt
		switch c {
		case '-':
			s.number = numMinus
		case '0':
			s.number = numZero
		}
		return true
	}
	s.rest = map[byte]string{'t': "rue", 'f': "alse", 'n': "ull"}[c]
	s.state = inLiteral
	return s.rest != ""
}

// wanted says that the value that begins now may be a link.
func (s *linkScanner) wanted() bool {
	for i, p := range s.paths {
		if p.done(s.value[i]) {
			return true
		}
	}
	return false
}

// open begins a mapping or a list; the places of its values follow from its own.
func (s *linkScanner) open(isList bool) bool {
	if len(s.stack) >= maxLinkDepth {
		return false
	}
	at := s.slot()
	copy(at, s.value)
	s.stack = append(s.stack, level{isList, at})
	s.state = wantMember
	if isList {
		s.state = wantFirst
		s.descend("", true)
	}
	return true
}

func (s *linkScanner) slot() []positions {
	if n := len(s.spare); n > 0 {
		at := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return at
	}
	return make([]positions, len(s.paths))
}

// descend finds the places of the next value.
func (s *linkScanner) descend(name string, isItem bool) {
	at := s.stack[len(s.stack)-1].at
	for i, p := range s.paths {
		s.value[i] = p.into(at[i], name, isItem)
	}
}

func (s *linkScanner) close() bool {
	last := len(s.stack) - 1
	s.spare = append(s.spare, s.stack[last].at)
	s.stack = s.stack[:last]
	s.finish()
	return true
}

// finish is the end of a value.
func (s *linkScanner) finish() {
	s.state = wantNext
	if len(s.stack) == 0 {
		s.state = ended
	}
}

func (s *linkScanner) next(c byte) bool {
	isList := s.stack[len(s.stack)-1].isList
	switch {
	case c == ',' && isList:
		s.state = wantValue
		s.descend("", true)
	case c == ',':
		s.state = wantName
	case c == ']' && isList, c == '}' && !isList:
		return s.close()
	default:
		return false
	}
	return true
}

// text takes a byte of a string, its closing quote included.
func (s *linkScanner) text(c byte) bool {
	if s.state == inName && len(s.key) <= maxLinkName && (c != '"' || s.escape == 1) {
		s.key = append(s.key, c)
	}
	switch {
	case s.escape == 1:
		s.escape = 0
		if c == 'u' {
			s.escape = 5
		}
		return bytes.IndexByte([]byte(`"\/bfnrtu`), c) >= 0
	case s.escape > 1:
		if s.escape--; s.escape == 1 {
			s.escape = 0
		}
		return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
	case c == '\\':
		s.escape = 1
	case c == '"' && s.state == inName:
		s.state = wantColon
		s.descend(s.name(), false)
	case c == '"':
		s.finish()
	}
	return c >= ' '
}

// name is the name of a member; one that is too long to be compared is none of those that are looked for.
func (s *linkScanner) name() string {
	if len(s.key) > maxLinkName || bytes.IndexByte(s.key, '\\') < 0 {
		return string(s.key)
	}
	var out string
	if json.Unmarshal(append(append([]byte{'"'}, s.key...), '"'), &out) != nil {
		return string(s.key)
	}
	return out
}

// digit takes a byte of a number. If it is not of the number, it gives the state in which the byte is to be read.
func (s *linkScanner) digit(c byte) bool {
	isDigit := c >= '0' && c <= '9'
	isE := c == 'e' || c == 'E'
	switch n := s.number; {
	case n == numMinus && c == '0':
		s.number = numZero
	case n == numMinus && isDigit, n == numInt && isDigit:
		s.number = numInt
	case (n == numZero || n == numInt) && c == '.':
		s.number = numDot
	case (n == numDot || n == numFraction) && isDigit:
		s.number = numFraction
	case (n == numZero || n == numInt || n == numFraction) && isE:
		s.number = numE
	case n == numE && (c == '+' || c == '-'):
		s.number = numSign
	case (n == numE || n == numSign || n == numExponent) && isDigit:
		s.number = numExponent
	case n == numZero || n == numInt || n == numFraction || n == numExponent:
		s.finish()
		return false
	default:
		s.state = lost
		return false
	}
	return true
}
