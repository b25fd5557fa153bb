package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"sallyport/agent/winauth/gate"
	"sallyport/agent/winauth/ntlm"
)

// An internalAPI is the ERP of the story: a small REST API behind a gate that verifies NTLMv2. It binds an identity to
// its connection, as IIS does.
type internalAPI struct {
	gate  *gate.Gate
	calls atomic.Int64 // requests that the gate let in
}

func newInternalAPI(url, password string, log *slog.Logger) *internalAPI {
	domain, user, _ := strings.Cut(account, `\`)
	hash := ntlm.HashOf(password)
	a := &internalAPI{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{
			"order": r.PathValue("id"), "item": "valve", "signedOnAs": nameOf(r), "requestId": r.Header.Get("X-Request-Id"),
		})
	})
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, answerLimit))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Location", url+"/orders/6")
		writeJSON(w, http.StatusCreated, map[string]any{"order": "6", "bodySha256": sum(body), "signedOnAs": nameOf(r)})
	})
	a.gate = &gate.Gate{
		Verifier: &ntlm.Verifier{
			Computer: "ERP", Domain: domain,
			Lookup: func(u, d string) (ntlm.Hash, bool) {
				return hash, strings.EqualFold(u, user) && strings.EqualFold(d, domain)
			},
		},
		Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a.calls.Add(1)
			mux.ServeHTTP(w, r)
		}),
		Log: log.With("program", "api"),
	}
	return a
}

func (a *internalAPI) server() *http.Server {
	return &http.Server{Handler: a.gate, ConnContext: a.gate.ConnContext, ReadHeaderTimeout: 10 * time.Second}
}

func nameOf(r *http.Request) string {
	id, ok := gate.UserOf(r)
	if !ok {
		return ""
	}
	return id.Domain + `\` + id.User
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// newPassword is different each time, so that nothing can know it but the API and the agent's secret store.
func newPassword() string { return rand.Text() }
