package agent

import (
	"bufio"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/tunnel"
)

// Each line of the record goes to the collector as it is on record, the last one too; who cannot be verified gets none.
func TestRecordIsForwarded(t *testing.T) {
	t.Parallel()
	for _, verified := range []bool{true, false} {
		web := httptest.NewTLSServer(nil) // for its certificate, of 127.0.0.1
		cert := web.Certificate()
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates})
		web.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		got := make(chan string, 1000)
		go func() { // ends with the listener and what it took
			defer close(got)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			for r := bufio.NewReader(conn); ; {
				n, err := r.ReadString(' ')
				if err != nil {
					return
				}
				size, _ := strconv.Atoi(strings.TrimSpace(n))
				message := make([]byte, size)
				if _, err := io.ReadFull(r, message); err != nil {
					return
				}
				got <- string(message)
			}
		}()
		ca := t.TempDir() + "/ca.pem"
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
		if err := os.WriteFile(ca, text, 0o600); err != nil {
			t.Fatal(err)
		}
		form := "audit: {syslog: {to: '" + l.Addr().String() + "', ca: " + ca + "}}\n" + yamlForm
		if !verified {
			form = strings.Replace(form, ", ca: "+ca, "", 1)
		}
		r := newRigAs(t, form, func(*rig) {})
		if resp, _ := r.ask(r.link(), tunnel.Request{Method: "GET", Target: "/orders/5"}); resp.Status != 200 {
			t.Errorf("status %d", resp.Status)
		}
		if !verified {
			r.until("the collector is refused", func() bool { return strings.Contains(r.log.String(), "the syslog collector cannot be reached") })
			r.stop()
			if len(got) > 0 {
				t.Errorf("a collector that nobody vouches for got %s", <-got)
			}
			continue
		}
		r.until("the collector is connected", func() bool { return strings.Contains(r.log.String(), "connected to the syslog collector") })
		r.stop()
		record, err := os.ReadFile(r.state.Path("audit/audit.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		late := time.After(30 * time.Second)
		for line := range strings.Lines(string(record)) {
			select {
			case m := <-got:
				if !strings.HasPrefix(m, "<110>1 ") || !strings.Contains(m, " sallyport-agent ") || !strings.Contains(m, " audit - ") ||
					!strings.HasSuffix(m, " "+strings.TrimSuffix(line, "\n")) {
					t.Errorf("the collector got %s\nwant %s", m, line)
				}
			case <-late:
				t.Fatalf("the collector did not get %s", line)
			}
		}
	}
}
