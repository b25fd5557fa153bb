package connector_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/relay/connector"
	"sallyport/tunnel"
)

// A wrapping listener makes connections as the relay's does, and counts what they write to the network.
type wrapping struct {
	net.Listener
	writes, accepted atomic.Int64
}

type counted struct {
	net.Conn
	writes *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func (l *wrapping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.accepted.Add(1)
	return tunnel.WrapConn(counted{c, &l.writes}), nil
}

// Large bodies keep every byte both ways over TLS, one after the other on one connection, and their records go to the network
// together.
func TestRecordsOfALargeBodyGoTogether(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(i * i >> 7)
	}
	r := start(t, func(s *tunnel.Stream) {
		whole, err := io.ReadAll(s) // before anything is answered, so that writes are those of the answer
		if err != nil {
			t.Error(err)
		}
		_ = s.SendResponse(&tunnel.Response{Status: 200, Header: http.Header{}, ContentLength: int64(len(whole))}, false)
		_, _ = s.Write(whole)
		_ = s.CloseWrite(nil)
	}, settings{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		target := strings.TrimPrefix(q.RequestURI, "/plant1/orders")
		r.proxy.Serve(w, q, connector.Place{Published: r.directory.ByPath("plant1", "orders"), Target: target})
	}))
	l := &wrapping{Listener: srv.Listener}
	srv.Listener = l
	srv.Config.ConnContext = connector.WithConn
	srv.StartTLS()
	defer srv.Close()
	for name, body := range map[string]func() io.Reader{
		"with a length": func() io.Reader { return bytes.NewReader(want) },
		"in chunks":     func() io.Reader { return io.MultiReader(bytes.NewReader(want)) },
	} {
		for range 2 {
			before := l.writes.Load()
			resp, err := srv.Client().Post(srv.URL+"/plant1/orders/import", "application/octet-stream", body())
			if err != nil {
				t.Fatal(name, err)
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %d bytes came back of %d, or not the same: %v", name, len(got), size, err)
			}
			if writes := l.writes.Load() - before; writes > size/(32<<10) {
				t.Errorf("%s: %d writes to the network for %d records", name, writes, size/(16<<10))
			}
		}
	}
	if n := l.accepted.Load(); n > 3 {
		t.Errorf("%d connections for 4 requests", n)
	}
}
