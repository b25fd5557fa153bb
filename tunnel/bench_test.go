package tunnel

import (
	"io"
	"net/http"
	"testing"
)

// BenchmarkSmallExchange is one small request and a 0.9 kB answer, by 64 callers on one link.
func BenchmarkSmallExchange(b *testing.B) {
	body := make([]byte, 900)
	relay, _ := links(b, Options{}, Options{Serve: func(s *Stream) {
		_ = s.Answer(&Response{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: 900}, body)
	}})
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s, err := relay.Open(get("/orders/5"), true)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := s.ReadResponse(b.Context()); err != nil {
				b.Error(err)
			}
			_, _ = io.Copy(io.Discard, s)
			s.Reset(Cancelled, "done")
		}
	})
}

// BenchmarkBulk moves body bytes from the agent to the relay on one stream.
func BenchmarkBulk(b *testing.B) {
	piece := make([]byte, 32<<10)
	relay, _ := links(b, Options{}, Options{Serve: func(s *Stream) {
		_ = s.SendResponse(&Response{Status: 200, ContentLength: -1}, false)
		for {
			if _, err := s.Write(piece); err != nil {
				return
			}
		}
	}})
	s, err := relay.Open(get("/"), true)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Reset(Cancelled, "done")
	if _, err := s.ReadResponse(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(piece)))
	for b.Loop() {
		if _, err := io.CopyN(io.Discard, s, int64(len(piece))); err != nil {
			b.Fatal(err)
		}
	}
}
