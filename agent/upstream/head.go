package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"

	"golang.org/x/net/http/httpguts"
)

// Bounds on what an upstream may answer. http.ReadResponse alone takes hundreds of thousands of fields.
const (
	maxHead          = 1 << 20
	maxHeadLines     = 1000
	maxInformational = 10
)

// A headReader reads answers from one connection.
type headReader struct {
	src io.Reader
	br  *bufio.Reader
}

var (
	errHeadTooLarge  = fmt.Errorf("the answer's head is larger than %d bytes", maxHead)
	errTooManyFields = fmt.Errorf("the answer's head has more than %d lines", maxHeadLines)
	errNotHTTP       = errors.New("the answer is not HTTP/1.1")
	errControlByte   = errors.New("the answer's head has a control byte in it")
	errFieldName     = errors.New("the answer's head has a field whose name is none (RFC 9110 section 5.1)")
)

// read gives the next answer, informational ones included. The whole head is in the buffer and has been checked before
// http.ReadResponse sees it. doubtful says that the framing could be read in two ways (Content-Length beside
// Transfer-Encoding): the answer is read as RFC 9112 section 6.3 says, and the connection must end after it.
//
// An error before the head is complete consumes nothing: after a deadline, read may be called again.
func (h *headReader) read(req *http.Request) (resp *http.Response, doubtful bool, err error) {
	head, err := h.await()
	if err != nil {
		return nil, false, err
	}
	doubtful, err = checkHead(head)
	if err != nil {
		return nil, false, err
	}
	resp, err = http.ReadResponse(h.br, req)
	if err != nil {
		return nil, false, fmt.Errorf("the answer's head: %w", err)
	}
	return resp, doubtful, nil
}

// await blocks until a complete head is buffered and returns it, empty line included.
func (h *headReader) await() ([]byte, error) {
	scanned := 0
	for need := 1; ; {
		if _, err := h.br.Peek(need); err != nil {
			if err == io.EOF && h.br.Buffered() > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		buf, _ := h.br.Peek(h.br.Buffered())
		if end := headEnd(buf, scanned); end > 0 {
			return buf[:end], nil
		}
		if len(buf) >= maxHead {
			return nil, errHeadTooLarge
		}
		if bytes.Count(buf, []byte("\n")) > maxHeadLines {
			return nil, errTooManyFields
		}
		if len(buf) == h.br.Size() {
			h.grow(buf)
		}
		scanned = max(0, len(buf)-3) // the end may straddle two reads
		need = len(buf) + 1
	}
}

// grow gives the reader twice the buffer.
func (h *headReader) grow(pending []byte) {
	rest := io.MultiReader(bytes.NewReader(bytes.Clone(pending)), h.src)
	h.br = bufio.NewReaderSize(rest, 2*h.br.Size())
	_, _ = h.br.Peek(len(pending)) // from memory
}

// grown says that a large head has made the buffer larger than an idle connection should hold.
func (h *headReader) grown() bool { return h.br.Size() > readBuffer }

// headEnd is the length of the head that ends in buf, 0 if it goes on. Lines may end in a bare LF (RFC 9112 section
// 2.2), as http.ReadResponse reads them.
func headEnd(buf []byte, from int) int {
	for i := from; i < len(buf); i++ {
		nl := bytes.IndexByte(buf[i:], '\n')
		if nl < 0 {
			return 0
		}
		i += nl
		switch rest := buf[i+1:]; {
		case bytes.HasPrefix(rest, []byte("\n")):
			return i + 2
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return i + 3
		}
	}
	return 0
}

// checkHead refuses what http.ReadResponse would take and a careful reader would not. It blanks out the names that a
// Trailer field must not announce, because http.ReadResponse would give up the whole answer for them; the fields
// themselves are dropped when the trailer comes.
func checkHead(head []byte) (doubtful bool, err error) {
	if !bytes.HasPrefix(head, []byte("HTTP/1.")) {
		return false, errNotHTTP
	}
	lines := 0
	var length, encoding, trailer bool
	for len(head) > 0 {
		line, rest, _ := bytes.Cut(head, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if lines++; lines > maxHeadLines {
			return false, errTooManyFields
		}
		for _, b := range line {
			if b < ' ' && b != '\t' || b == 0x7f {
				return false, errControlByte
			}
		}
		folded := len(line) > 0 && (line[0] == ' ' || line[0] == '\t') // belongs to the field before (RFC 9112 section 5.2)
		if lines > 1 && len(line) > 0 && !folded && !isFieldLine(line) {
			return false, errFieldName
		}
		length = length || isField(line, "content-length")
		encoding = encoding || isField(line, "transfer-encoding")
		if trailer = isField(line, "trailer") || folded && trailer; trailer {
			blankForbidden(line[bytes.IndexByte(line, ':')+1:])
		}
		head = rest
	}
	return length && encoding, nil
}

// isFieldLine says that a line begins with a token and a colon.
func isFieldLine(line []byte) bool {
	for i, b := range line {
		if b == ':' {
			return i > 0
		}
		if b >= 0x80 || !httpguts.IsTokenRune(rune(b)) {
			return false
		}
	}
	return false
}

// blankForbidden writes spaces over the names in a Trailer field's value that must not be there.
func blankForbidden(value []byte) {
	for len(value) > 0 {
		name, rest, _ := bytes.Cut(value, []byte(","))
		if forbiddenTrailer(http.CanonicalHeaderKey(textproto.TrimString(string(name)))) {
			for i := range name {
				name[i] = ' '
			}
		}
		value = rest
	}
}

func isField(line []byte, name string) bool {
	return len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name))
}
