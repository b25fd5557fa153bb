//go:build linux

package main

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"sallyport/agent/winauth/gate"
	"sallyport/agent/winauth/ntlm"
)

const (
	// smallAnswer is a list of lines of an order: 0.9 kB of JSON.
	smallAnswer = `{"order":"4711","customer":{"id":"C-20384","name":"Northwind Traders","city":"Rotterdam"},"currency":"EUR","lines":[` +
		`{"line":1,"product":{"id":"VLV-0815","name":"Ball valve DN50 stainless","unit":"pcs"},"quantity":12,"price":148.50,"delivery":"2026-03-14"},` +
		`{"line":2,"product":{"id":"GSK-2210","name":"Flat gasket DN50 graphite","unit":"pcs"},"quantity":48,"price":3.95,"delivery":"2026-03-14"},` +
		`{"line":3,"product":{"id":"FLG-1050","name":"Welding neck flange DN50 PN16","unit":"pcs"},"quantity":24,"price":31.20,"delivery":"2026-03-16"},` +
		`{"line":4,"product":{"id":"BLT-1665","name":"Hexagon bolt M16x65 A4-70","unit":"box"},"quantity":4,"price":86.00,"delivery":"2026-03-11"},` +
		`{"line":5,"product":{"id":"PIP-0050","name":"Pipe 60.3x2.9 1.4571 seamless","unit":"m"},"quantity":36,"price":42.75,"delivery":"2026-03-20"}],` +
		`"total":5391.80,"state":"released"}`
	uploadAnswer = `{"imported":true}`

	// bulkSize is the size of a large body, either way; it is also what an agent admits by default.
	bulkSize = 100_000_000

	account, accountDomain, accountUser = `CORP\svc-bench`, "CORP", "svc-bench"
)

// bulkBlock is what large bodies are made of.
var bulkBlock = bytes.Repeat([]byte("0123456789abcdef"), 16<<10)

// An upstream is the internal API that every way leads to.
type upstream struct {
	handshakes atomic.Int64 // sign-ons by NTLM that reached the gate, right or wrong
}

func (u *upstream) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}/lines", func(w http.ResponseWriter, _ *http.Request) { answer(w, smallAnswer) })
	mux.HandleFunc("GET /reports/{name}/export", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(bulkSize))
		for left := bulkSize; left > 0; {
			n, err := w.Write(bulkBlock[:min(left, len(bulkBlock))])
			if err != nil {
				return
			}
			left -= n
		}
	})
	mux.HandleFunc("POST /imports/{name}", func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r.Body}, make([]byte, 256<<10)); n != bulkSize || err != nil {
			http.Error(w, "the body broke off", http.StatusBadRequest)
			return
		}
		answer(w, uploadAnswer)
	})
	mux.HandleFunc("GET /handshakes", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, strconv.FormatInt(u.handshakes.Load(), 10))
	})
	return mux
}

func answer(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, text)
}

// proof is how a raw NTLM message of type 3 begins in Base64: the last of each handshake.
const proof = "NTLM TlRMTVNTUAADAAAA"

// gated is the same API for those alone who have signed on by NTLM.
func (u *upstream) gated(password string) *http.Server {
	hash := ntlm.HashOf(password)
	g := &gate.Gate{
		Verifier: &ntlm.Verifier{
			Computer: "ERP", Domain: accountDomain,
			Lookup: func(user, domain string) (ntlm.Hash, bool) {
				return hash, strings.EqualFold(user, accountUser) && strings.EqualFold(domain, accountDomain)
			},
		},
		Schemes: []string{"NTLM"},
		Next:    u.handler(),
	}
	counting := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Authorization"), proof) {
			u.handshakes.Add(1)
		}
		g.ServeHTTP(w, r)
	})
	return &http.Server{Handler: counting, ConnContext: g.ConnContext}
}
