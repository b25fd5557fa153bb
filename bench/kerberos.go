//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The ways to an API that demands Kerberos: for each connection, as IIS may do it, and for each request.
const (
	boundWay = "sallyport_kerberos"
	eachWay  = "sallyport_kerberos_each"
)

// A lab is the Active Directory lab (test/lab/ad) that this program runs in: a domain controller, and Apache as the API.
type lab struct{ state, keytabs string }

func openLab() (lab, error) {
	l := lab{os.Getenv("ADLAB_STATE"), os.Getenv("ADLAB_KEYTABS")}
	if l.state == "" || l.keytabs == "" {
		return l, errors.New("--kerberos runs in the Active Directory lab: ../test/lab/ad/up.sh, then ../test/lab/ad/labexec.sh go run . --kerberos")
	}
	// Apache gives what the other ways' upstream gives.
	if err := os.WriteFile(filepath.Join(l.state, "htdocs/lines.json"), []byte(smallAnswer), 0o644); err != nil {
		return l, fmt.Errorf("give the lab's Apache an answer: %w", err)
	}
	return l, nil
}

func (l lab) agentYAML() string {
	return "kerberos: {config: " + filepath.Join(l.state, "krb5.conf") + "}\n"
}

// apis are Apache's places: open to all, Kerberos for each connection, Kerberos for each request.
func (l lab) apis() string {
	const web = "http://intranet.corp.example"
	windows := fmt.Sprintf("{windows: {as: service, keytab: %s, principal: svc-gw@CORP.EXAMPLE, protocol: kerberos}}", filepath.Join(l.keytabs, "svc-gw.keytab"))
	return fmt.Sprintf(apiYAML, "orders", web+"/open", "none") + fmt.Sprintf(apiYAML, "bound", web+"/negotiate", windows) +
		fmt.Sprintf(apiYAML, "each", web+"/kerb", windows)
}

// measureKerberos measures the same file through the same programs, without a sign-on and with both.
func (s *stage) measureKerberos(ctx context.Context) (*report, error) {
	open := s.ways[0]
	relay, _, err := s.binaries(ctx)
	if err != nil {
		return nil, err
	}
	for _, one := range [...]struct{ way, api string }{{boundWay, "bound"}, {eachWay, "each"}} {
		w := *open
		w.name = one.way
		if w.target, err = s.publish(ctx, relay, open.target, one.api); err != nil {
			return nil, err
		}
		if err := w.target.await(ctx, small); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", one.way, err, s.logs(open))
		}
		s.ways = append(s.ways, &w)
	}
	return s.measureWays(ctx)
}
