// Command api is an internal API for the trials on Windows: it lets nobody in who does not sign on with NTLM, and says who did.
// It is gate's server, which verifies NTLMv2, but takes what Wine can send (no MIC, no channel binding).
//
//	api 127.0.0.1:8081 'CORP\svc-orders' PASSWORD
package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"sallyport/agent/winauth/gate"
	"sallyport/agent/winauth/ntlm"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: api ADDRESS DOMAIN\\ACCOUNT PASSWORD")
		os.Exit(2)
	}
	domain, account, _ := strings.Cut(os.Args[2], `\`)
	g := &gate.Gate{
		Verifier: &ntlm.Verifier{
			Computer: "API", Domain: domain, NoMIC: true,
			Lookup: func(u, d string) (ntlm.Hash, bool) {
				return ntlm.HashOf(os.Args[3]), strings.EqualFold(u, account) && strings.EqualFold(d, domain)
			},
		},
		Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, _ := gate.UserOf(r)
			fmt.Fprintf(w, "%s\\%s\n", who.Domain, who.User)
		}),
	}
	s := &http.Server{Addr: os.Args[1], Handler: g, ConnContext: g.ConnContext, ReadHeaderTimeout: time.Minute}
	fmt.Fprintln(os.Stderr, s.ListenAndServe())
	os.Exit(1)
}
