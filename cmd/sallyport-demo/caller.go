package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"time"
)

// An answer is what a cloud caller gets.
type answer struct {
	status int
	proto  string
	header http.Header
	body   []byte
}

func (a answer) must(status int) error {
	if a.status != status {
		return fmt.Errorf("got %d instead of %d: %s", a.status, status, a.body)
	}
	return nil
}

// answerLimit bounds what the demo reads of an answer, in bytes.
const answerLimit = 1 << 20

// ask makes one call as a cloud caller would: an ordinary HTTPS client that trusts the throw-away CA.
func (st *stage) ask(ctx context.Context, method, url, key string, body []byte) (answer, error) {
	transport := &http.Transport{ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	if st.authority != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: st.authority.pool()}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if key != "" {
		req.Header.Set("X-API-Key", key)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	return answer{status: resp.StatusCode, proto: resp.Proto, header: resp.Header, body: bytes.TrimSpace(got)}, err
}
