package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// A frame is a header of 12 bytes and a payload. Frames never cross messages; a message holds as many as fit.
//
//	 0      1      2          4                      12
//	+------+------+----------+----------------------+----------------
//	| type | flags| length   | stream               | payload ...
//	+------+------+----------+----------------------+----------------
//	  u8     u8     u16        u64                    length bytes
//
// All numbers are big-endian. Stream 0 is the link itself.
const (
	headerSize = 12
	// MaxMessage is the largest WebSocket message, in bytes.
	MaxMessage = 64 << 10
	maxPayload = MaxMessage - headerSize
)

type frameType byte

// The frame types, and what their payload is.
const (
	frameOpen    frameType = 0x01 // a request head (head.go); opens the stream
	frameHead    frameType = 0x02 // a response head: informational ones, then the final one
	frameData    frameType = 0x03 // body bytes; they use up credit
	frameTrailer frameType = 0x04 // a field block; ends the sender's half
	frameWindow  frameType = 0x05 // u32: so many more body bytes may be sent
	frameReset   frameType = 0x06 // u8 code, UTF-8 reason (<= 256 bytes)
	frameControl frameType = 0x10 // JSON {"kind": ..., "body": ...}; stream 0
	framePing    frameType = 0x11 // u64 chosen by the sender; stream 0
	framePong    frameType = 0x12 // the ping's u64
	frameGoAway  frameType = 0x13 // u64 last stream accepted, UTF-8 reason (<= 256 bytes)
)

// Flags.
const (
	flagEnd  byte = 0x01 // on OPEN, HEAD, DATA: the sender's half ends with this frame
	flagMore byte = 0x02 // on OPEN, HEAD, TRAILER, CONTROL: the payload goes on in the next frame of this type and stream
)

const maxReason = 256

// A frameHeader is the fixed part of a frame.
type frameHeader struct {
	typ    frameType
	flags  byte
	length int
	stream uint64
}

func (h frameHeader) put(b *[headerSize]byte) {
	b[0], b[1] = byte(h.typ), h.flags
	binary.BigEndian.PutUint16(b[2:], uint16(h.length))
	binary.BigEndian.PutUint64(b[4:], h.stream)
}

func parseFrameHeader(b *[headerSize]byte) frameHeader {
	return frameHeader{
		typ: frameType(b[0]), flags: b[1],
		length: int(binary.BigEndian.Uint16(b[2:])),
		stream: binary.BigEndian.Uint64(b[4:]),
	}
}

// A protocolError is the peer's fault and ends the link.
type protocolError struct{ msg string }

func (e *protocolError) Error() string { return "protocol error: " + e.msg }

func violation(format string, args ...any) error {
	return &protocolError{fmt.Sprintf(format, args...)}
}

var errShort = errors.New("cut short")

// --- payloads of fixed form

func appendReset(code ResetCode, reason string) []byte {
	return append([]byte{byte(code)}, clip(reason)...)
}

func parseReset(b []byte) (ResetCode, string, error) {
	if len(b) == 0 {
		return 0, "", violation("RESET without a code")
	}
	return ResetCode(b[0]), printable(b[1:]), nil
}

// allUnderWay is the last stream that a GOAWAY of this side's names: whatever the peer has opened is taken (SPEC.md section 6).
const allUnderWay = math.MaxUint64

func appendGoAway(last uint64, reason string) []byte {
	return append(binary.BigEndian.AppendUint64(nil, last), clip(reason)...)
}

func parseGoAway(b []byte) (last uint64, reason string, err error) {
	if len(b) < 8 {
		return 0, "", violation("GOAWAY of %d bytes", len(b))
	}
	return binary.BigEndian.Uint64(b), printable(b[8:]), nil
}

func parseU32(b []byte) (uint32, error) {
	if len(b) != 4 {
		return 0, violation("WINDOW of %d bytes", len(b))
	}
	return binary.BigEndian.Uint32(b), nil
}

func parseU64(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, violation("PING or PONG of %d bytes", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// clip bounds a reason before it travels.
func clip(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason]
	}
	return s
}

// printable makes a foreign reason fit for a log line: bounded, and without control characters.
func printable(b []byte) string {
	if len(b) > maxReason {
		b = b[:maxReason]
	}
	out := []rune(string(b))
	for i, r := range out {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			out[i] = '?'
		}
	}
	return string(out)
}
