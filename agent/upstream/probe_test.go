package upstream

import (
	"errors"
	"net"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSchemes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want []string }{
		"none":                 {nil, nil},
		"one field, two":       {[]string{`Negotiate, NTLM`}, []string{"Negotiate", "NTLM"}},
		"parameters":           {[]string{`Basic realm="a, NTLM", charset="UTF-8"`, "Bearer"}, []string{"Basic", "Bearer"}},
		"twice, in other case": {[]string{"NTLM", "ntlm"}, []string{"NTLM"}},
		"no token":             {[]string{"\x1b[31mred", `""`, ", ,"}, nil},
		"too many":             {[]string{"a,b,c,d,e,f,g,h,i,j"}, []string{"a", "b", "c", "d", "e", "f", "g", "h"}},
	} {
		if diff := cmp.Diff(c.want, schemes(c.in)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

// An API that answers with what is no answer, or with endless headers, is told apart from one that is not there.
func TestLookAtWhatIsNoAPI(t *testing.T) {
	t.Parallel()
	endless := "HTTP/1.1 200 OK\r\n"
	for len(endless) < 2*lookLimit {
		endless += "X-More: of this\r\n"
	}
	for name, answer := range map[string]string{"nothing": "", "another protocol": "SSH-2.0-x\r\n", "endless": endless} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte(answer))
			_ = c.Close()
		}()
		tr, err := New(Config{Name: "x", URL: &url.URL{Scheme: "http", Host: l.Addr().String()}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = tr.Look(t.Context(), "GET", "/")
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Broken {
			t.Errorf("%s: %v, want %s", name, err, Broken)
		}
		_ = l.Close()
		<-served
		tr.Close()
	}
}
