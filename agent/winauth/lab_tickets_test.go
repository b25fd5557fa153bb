//go:build !windows

package winauth_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport/agent/winauth"
)

// A countingKDC passes requests on to the domain controller and counts those for service tickets.
type countingKDC struct {
	net.Listener
	to      string
	tickets atomic.Int64
	serving sync.WaitGroup
}

func (k *countingKDC) serve() {
	for {
		conn, err := k.Accept()
		if err != nil {
			return
		}
		k.serving.Go(func() {
			defer conn.Close()
			_ = k.exchange(conn)
		})
	}
}

// exchange passes one request on, and the answer back (RFC 4120 section 7.2.2).
func (k *countingKDC) exchange(conn net.Conn) error {
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	request := make([]byte, min(binary.BigEndian.Uint32(size[:]), 64<<10))
	if _, err := io.ReadFull(conn, request); err != nil {
		return err
	}
	const tgsREQ = 0x6c // application 12 (RFC 4120 section 5.4.1)
	if len(request) > 0 && request[0] == tgsREQ {
		k.tickets.Add(1)
	}
	kdc, err := net.Dial("tcp", k.to)
	if err != nil {
		return err
	}
	defer kdc.Close()
	if _, err := kdc.Write(append(size[:], request...)); err != nil {
		return err
	}
	if _, err := io.ReadFull(kdc, size[:]); err != nil {
		return err
	}
	_, err = io.Copy(conn, io.MultiReader(bytes.NewReader(size[:]), io.LimitReader(kdc, int64(binary.BigEndian.Uint32(size[:])))))
	return err
}

// TestLabOneServiceTicket: a thousand sign-ons of one principal to one service, sixteen at a time, cost one service ticket.
func TestLabOneServiceTicket(t *testing.T) {
	l := openLab(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kdc := &countingKDC{Listener: listener, to: l.dc + ":88"}
	kdc.serving.Go(kdc.serve)
	t.Cleanup(func() {
		_ = kdc.Close()
		kdc.serving.Wait()
	})
	config := filepath.Join(t.TempDir(), "krb5.conf")
	text := fmt.Sprintf("[libdefaults]\ndefault_realm = CORP.EXAMPLE\n[realms]\nCORP.EXAMPLE = {\n kdc = %s\n}\n[domain_realm]\n.corp.example = CORP.EXAMPLE\n", kdc.Addr())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cred := l.account(t, winauth.Options{Krb5Config: config}, `CORP\alice`, "alice")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 1000 / 16 {
				h := cred.Handshake(winauth.Target{Host: "intranet.corp.example"})
				if token, err := h.Ahead(t.Context()); err != nil || token.Value == "" {
					t.Errorf("no token ahead: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := kdc.tickets.Load(); got != 1 {
		t.Errorf("%d service tickets were asked for, want 1", got)
	}
}
