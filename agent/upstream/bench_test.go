package upstream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// BenchmarkRoundTrip compares a small exchange with http.Transport's, both over warm connections.
func BenchmarkRoundTrip(b *testing.B) {
	body := make([]byte, 900)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	for name, rt := range map[string]http.RoundTripper{
		"ours": newTransport(b, Config{URL: u}), "std": &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					req, _ := http.NewRequest("GET", srv.URL+"/orders/5", nil)
					resp, err := rt.RoundTrip(req)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		})
	}
}
