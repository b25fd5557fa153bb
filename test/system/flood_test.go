//go:build linux

package system

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxFlood is how many frames a flood sends if nobody ends its connection.
const maxFlood = 100_000

// TestFloodsHTTP2: one connection that sends frames as fast as it can, of kinds that cost the other side more than the sender, ends
// or is passed over; it takes the relay neither memory nor other callers' answers.
func TestFloodsHTTP2(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	b := ready(t, lean, []string{"r"}, api("r", w.url, "", "GET /**"))
	b.relay.stop(t)
	b.relayEnv = append(b.relayEnv, "GOGC=50") // garbage that is let gather is not what is looked for
	b.startRelay()
	b.awaitLinks(2)
	head := fields([2]string{":method", "GET"}, [2]string{":scheme", "https"}, [2]string{":authority", hostName}, [2]string{":path", "/" + gatewayName + "/r/a/x"})
	long := bytes.Repeat(fields([2]string{"x-flood", strings.Repeat("v", 285)}), 50)
	floods := map[string]func(f *http2.Framer, i uint32) error{
		"CONTINUATION that never ends a head": func(f *http2.Framer, i uint32) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head})
			}
			return f.WriteContinuation(1, false, long)
		},
		"CONTINUATION without content": func(f *http2.Framer, i uint32) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head})
			}
			return f.WriteContinuation(1, false, nil)
		},
		"rapid reset": func(f *http2.Framer, i uint32) error {
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: head, EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return f.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		},
		"streams without end": func(f *http2.Framer, i uint32) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: head, EndHeaders: true})
		},
		"PING whose answers nobody reads":     func(f *http2.Framer, _ uint32) error { return f.WritePing(false, [8]byte{}) },
		"SETTINGS whose answers nobody reads": func(f *http2.Framer, _ uint32) error { return f.WriteSettings() },
		"DATA without content": func(f *http2.Framer, i uint32) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head, EndHeaders: true})
			}
			return f.WriteData(1, false, nil)
		},
		"PRIORITY": func(f *http2.Framer, i uint32) error {
			return f.WritePriority(2*i+1, http2.PriorityParam{StreamDep: 0, Weight: 1})
		},
	}
	for name, send := range floods {
		b.relay.resetPeak(t)
		before := b.relay.peakMemory(t)
		var others atomic.Int64
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() { // ends with stop
			defer close(done)
			c := b.client(2)
			c.Timeout = 20 * time.Second
			for {
				resp, err := c.Get(b.at("r", "/a/other"))
				if err != nil {
					t.Errorf("%s: another caller: %v", name, err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%s: another caller got %s", name, resp.Status)
				}
				others.Add(1)
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		}()
		sent, err := b.flood(send)
		close(stop)
		<-done
		after := b.relay.peakMemory(t)
		t.Logf("%s: %d frames until %v; %d calls of another caller meanwhile; at most %d kB before, %d kB then", name, sent, err, others.Load(), before>>10, after>>10)
		if after > before+64<<20 {
			t.Errorf("%s: the relay took %d MB more", name, (after-before)>>20)
		}
	}
	b.nothingIsLeft(b.relay)
}

// flood sends frames on one connection until one is refused, and gives how many were sent. It reads nothing.
func (b *box) flood(send func(f *http2.Framer, i uint32) error) (sent uint32, err error) {
	b.t.Helper()
	c := b.dialTLS("h2")
	defer c.Close()
	io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	f.WriteSettings()
	for sent < maxFlood && err == nil {
		c.SetWriteDeadline(time.Now().Add(30 * time.Second))
		if err = send(f, sent); err == nil {
			sent++
		}
	}
	return sent, err
}

// fields is a block of header fields that the other side keeps nothing of.
func fields(list ...[2]string) []byte {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range list {
		enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true})
	}
	return block.Bytes()
}
