// Package upstream is one exchange with one API: it takes the connection that the identity may use, signs on where the
// API asks for it, writes the request byte for byte and streams the answer back.
//
// It is not the allow-list (agent/policy has decided before) and makes no Windows tokens (agent/winauth does). It never
// follows a redirect, never takes an address from a request and never decompresses.
//
// It owns its connections, HTTP/1.1 only, and does not use http.Transport: Windows authentication signs on a
// connection, not a request, so a connection belongs to one identity for as long as it lives. The parsing of answers is
// http.ReadResponse's, behind a check of the head's size and form.
//
//	t, err := upstream.New(upstream.Config{Name: "orders", URL: u, Auth: upstream.Auth{...}, Log: log})
//	result := t.Serve(stream) // one exchange of the tunnel; or, as an http.RoundTripper:
//	resp, err := t.RoundTrip(req)
//	t.Close()
//
// The order of reading: config.go (what an API is), serve.go (a stream's exchange), roundtrip.go (a call over one or
// more connections), signon.go (Windows authentication), exchange.go (one request and its answer on one connection),
// pool.go and conn.go (the connections), links.go and header.go (what may leave).
package upstream
