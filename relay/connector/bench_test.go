package connector

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"sallyport/relay/gateway"
	"sallyport/tunnel"
)

type oneLink struct{ *gateway.Link }

func (l oneLink) Pick(string, string, ...*gateway.Link) (*gateway.Link, error) { return l.Link, nil }

func (l oneLink) PickSoon(context.Context, string, string, ...*gateway.Link) (*gateway.Link, error) {
	return l.Link, nil
}

// BenchmarkCall is the relay's and the link's part of a small call; the caller is as cheap as can be and the agent
// answers at once.
func BenchmarkCall(b *testing.B) {
	got := make(chan *tunnel.Link, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		ws, err := tunnel.NewUpgrader().Upgrade(w, q, nil)
		if err != nil {
			b.Error(err)
		}
		got <- tunnel.New(ws, tunnel.RelaySide, tunnel.Options{})
	}))
	defer srv.Close()
	ws, resp, err := tunnel.NewDialer().Dial("ws"+strings.TrimPrefix(srv.URL, "http")+tunnel.Path, nil)
	if err != nil {
		b.Fatal(err)
	}
	_ = resp.Body.Close()
	body := []byte(strings.Repeat("x", 900))
	agent := tunnel.New(ws, tunnel.AgentSide, tunnel.Options{Serve: func(s *tunnel.Stream) {
		h := http.Header{"Content-Type": {"application/json"}, "Date": {"Mon, 23 Nov 2026 04:00:00 GMT"}}
		_ = s.Answer(&tunnel.Response{Status: 200, Header: h, ContentLength: int64(len(body))}, body)
	}})
	relay := <-got
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = agent.Run(ctx) }()
	go func() { _ = relay.Run(ctx) }()

	pub := &Published{Connector: Connector{ID: "1", Gateway: "plant1", Name: "orders", API: "orders", Auth: []string{AuthNone}}}
	p := NewProxy(Options{Links: oneLink{&gateway.Link{Link: relay}}, PublicURL: &url.URL{Scheme: "https", Host: "relay.example.com"}})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.Serve(w, r, Place{Published: pub, Target: "/x"})
	}))
	defer front.Close()
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", front.Listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		br := bufio.NewReader(conn)
		for pb.Next() {
			_, _ = io.WriteString(conn, "GET /plant1/orders/x HTTP/1.1\r\nHost: relay\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
		}
	})
}
