package entra

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"sallyport/test/loud"
)

// arcTokens is where Azure Arc's agent leaves the files that prove a caller to be on the machine; azidentity reads no other.
const arcTokens = "/var/opt/azcmagent/tokens"

func TestArc(t *testing.T) {
	if err := os.MkdirAll(arcTokens, 0o700); err != nil {
		loud.Missing(t, "the right to write to "+arcTokens, "a machine of Azure Arc is not tried")
	}
	file := filepath.Join(arcTokens, fmt.Sprintf("sallyport-test-%d.key", os.Getpid()))
	if err := os.WriteFile(file, []byte("on-this-machine"), 0o600); err != nil {
		loud.Missing(t, "the right to write to "+arcTokens, "a machine of Azure Arc is not tried")
	}
	t.Cleanup(func() {
		for _, path := range []string{file, arcTokens, filepath.Dir(arcTokens)} {
			os.Remove(path) // the directories only if they are empty
		}
	})
	given := metadata(t, "/metadata/identity/oauth2/token", "api://arc")
	arc := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") != "Basic on-this-machine" {
			w.Header().Set("WWW-Authenticate", "Basic realm="+file)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		given.Config.Handler.ServeHTTP(w, q)
	}))
	t.Cleanup(arc.Close)
	t.Setenv("IDENTITY_ENDPOINT", arc.URL+"/metadata/identity/oauth2/token")
	t.Setenv("IMDS_ENDPOINT", arc.URL)
	c := newAuthority(t).config()
	c.Credential, c.Tenant, c.Client = Arc, "", ""
	c.Scope = "api://arc/.default" // managed identities share a cache in this process, by scope
	if got := claim(t, c); got != "managed" {
		t.Errorf("token %q", got)
	}
}
