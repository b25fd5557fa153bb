package tunnel

import (
	"io"
	"slices"
	"testing"
	"testing/synctest"
)

// A response head is told with the first bytes of its body where they are in the same message, and never waits for anything
// else.
func TestWhenHeadsAreTold(t *testing.T) {
	head := func(id uint64) []byte {
		b, err := appendResponse(nil, &Response{Status: 200, ContentLength: -1})
		if err != nil {
			t.Fatal(err)
		}
		return frame(frameHead, 0, id, b)
	}
	whole := frame(frameData, flagEnd, 1, []byte("body"))
	for _, c := range []struct {
		name        string
		first       []byte // comes, and is the message's end if next is nil
		told, ended bool   // by then
		next        []byte
	}{
		{"a head alone", head(1), true, false, nil},
		{"a head and the body", slices.Concat(head(1), whole), true, true, nil},
		{"a head and half a body", slices.Concat(head(1), whole[:headerSize+2]), false, false, whole[headerSize+2:]},
		{"a head, and a frame of another stream begins", slices.Concat(head(1), head(3)[:headerSize]), true, false, head(3)[headerSize:]},
		{"a head, and a ping begins", slices.Concat(head(1), frame(framePing, 0, 0, make([]byte, 8))[:headerSize]), true, false, make([]byte, 8)},
		{"a head, and trailers begin", slices.Concat(head(1), frame(frameTrailer, 0, 1, nil)), true, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newBareLink(RelaySide, Options{})
				var streams [2]*Stream
				for i := range streams {
					var err error
					if streams[i], err = l.Open(&Request{ID: "r", Method: "GET", Target: "/"}, true); err != nil {
						t.Fatal(err)
					}
				}
				told := false
				go func() {
					_, err := streams[0].ReadResponse(t.Context())
					told = err == nil
				}()
				r, w := io.Pipe()
				done := make(chan error, 1)
				go func() { done <- l.readMessage(r) }()
				synctest.Wait()
				_, _ = w.Write(c.first)
				if c.next == nil {
					_ = w.Close()
				}
				synctest.Wait()
				if told != c.told || streams[0].Ended() != c.ended {
					t.Errorf("told %v, ended %v; want %v, %v", told, streams[0].Ended(), c.told, c.ended)
				}
				_, _ = w.Write(c.next)
				_ = w.Close()
				if err := <-done; err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if !told {
					t.Error("it was never told")
				}
			})
		})
	}
}
