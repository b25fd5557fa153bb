package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"sallyport/agent"
	"sallyport/agent/link"
)

// Bounds of what is normal on the way to the relay.
const (
	// someSkew is noticed by nobody; muchSkew breaks Kerberos (5 minutes, RFC 4120 section 1.6) and tokens.
	someSkew = 30 * time.Second
	muchSkew = 5 * time.Minute
	// soonEnds is when somebody should have renewed a certificate that lives for long.
	soonEnds = 14 * 24 * time.Hour
	// answerLimit bounds what is read of an answer, which anybody may have given.
	answerLimit = 64 << 10
)

// examineRelay goes the way of a link, step by step.
func (p *patient) examineRelay(ctx context.Context) []Finding {
	if p.config.Relay == "" {
		f := Finding{ID: "relay", Tried: "the way to the relay"}
		return []Finding{f.skip("no relay is named: neither agent.yaml nor the agent's identity can be read; name one with --relay https://relay.example.com")}
	}
	route := Finding{ID: "relay.route", Tried: "connect to the relay " + p.config.Relay}
	d, err := agent.NewDialer(p.config, p.deps)
	if err != nil {
		return []Finding{route.is(Fail, err.Error(), "correct the setting in agent.yaml, or set the secret that it names")}
	}
	way := d.Way()
	proxy, err := way.Proxy()
	if err != nil {
		return []Finding{route.failed(err, "")}
	}
	var dns Finding
	var rest []Finding
	var wg sync.WaitGroup
	wg.Go(func() { dns = lookUpRelay(ctx, way.Relay(), proxy) })
	wg.Go(func() { rest = p.walk(ctx, d, proxy) })
	wg.Wait()
	if dns.Status == Fail && rest[0].Status == Fail {
		rest[0].Do = "mend what relay.dns says first"
	}
	return append([]Finding{dns}, rest...)
}

// lookUpRelay resolves what this machine itself connects to.
func lookUpRelay(ctx context.Context, relay, proxy *url.URL) Finding {
	if proxy == nil {
		return lookUp(ctx, "relay.dns", relay.Hostname(), "'relay' in agent.yaml", "mend this machine's DNS, or set 'proxy' in agent.yaml if only the proxy resolves it")
	}
	return lookUp(ctx, "relay.dns", proxy.Hostname(), "the proxy's name", "mend this machine's DNS, or name the proxy as it is known here")
}

// lookUp resolves a name, which stands where named says.
func lookUp(ctx context.Context, id, host, named, do string) Finding {
	f := Finding{ID: id, Tried: "look up " + host}
	if _, err := netip.ParseAddr(host); err == nil {
		return f.ok("an address, which needs no name server")
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return f.is(Fail, "the name does not exist, says "+nameServer(dns), "is "+named+" right? If it is: "+do)
		}
		return f.is(Fail, "no answer from "+nameServer(dns)+": "+dns.Err, do)
	}
	if err != nil {
		return f.is(Fail, err.Error(), do)
	}
	var names []string
	for _, a := range list {
		names = append(names, a.Unmap().String())
	}
	return f.ok("%s", strings.Join(names, ", "))
}

func nameServer(e *net.DNSError) string {
	if e.Server == "" {
		return "this machine's name server"
	}
	return "the name server " + e.Server
}

// walk connects, speaks TLS, asks whether the relay is well, opens a WebSocket, and proves the agent's key.
func (p *patient) walk(ctx context.Context, d *link.Dialer, proxy *url.URL) []Finding {
	way := d.Way()
	f := Finding{ID: "relay.route", Tried: "connect to the relay " + p.config.Relay + ", " + p.why(proxy)}
	step, cancel := bounded(ctx)
	defer cancel()
	conn, err := way.Connect(step)
	if err != nil {
		return append([]Finding{f.failed(err, "")}, unreached("relay.tls", "relay.health", "relay.clock", "relay.websocket", "relay.member")...)
	}
	defer func() { _ = conn.Close() }()
	list := []Finding{f.ok("connected to %s", conn.RemoteAddr())}
	if way.Relay().Scheme == "https" {
		secure, f := p.secure(step, way, conn)
		list = append(list, f)
		if secure == nil {
			return append(list, unreached("relay.health", "relay.clock", "relay.websocket", "relay.member")...)
		}
		conn = secure
	}
	var asked []Finding
	var ws Finding
	var wg sync.WaitGroup
	wg.Go(func() { asked = ask(step, way.Relay(), conn) })
	wg.Go(func() { ws = upgrade(ctx, way) })
	wg.Wait()
	list = append(append(list, asked...), ws)
	if ws.Status != OK {
		return append(list, unreached("relay.member")...)
	}
	return append(list, p.member(ctx, d)...)
}

// unreached are the steps after one that failed.
func unreached(ids ...string) (list []Finding) {
	tried := map[string]string{
		"relay.tls": "TLS with the relay", "relay.health": "ask the relay whether it is well",
		"relay.clock": "compare the clocks", "relay.websocket": "open a WebSocket",
		"relay.member": "prove the agent's key to the relay",
	}
	for _, id := range ids {
		f := Finding{ID: id, Tried: tried[id]}
		list = append(list, f.skip("the step before failed"))
	}
	return list
}

// why says which way is taken and who decided it.
func (p *patient) why(proxy *url.URL) string {
	set, env := p.config.Proxy, p.o.Environment != nil
	fromSystem := set == "" || set == "system" || set == "environment"
	switch {
	case proxy == nil && set == "none":
		return "without a proxy (agent.yaml says proxy: none)"
	case proxy == nil && env:
		return "without a proxy (HTTPS_PROXY is set here; NO_PROXY exempts the relay, or it is on this machine)"
	case proxy == nil:
		return "without a proxy (none is set)"
	case !fromSystem:
		return "through the proxy " + proxy.String() + " (of agent.yaml)"
	case env:
		return "through the proxy " + proxy.String() + " (HTTPS_PROXY as it is here; the service may have another)"
	}
	return "through the proxy " + proxy.String() + " (of the system's settings)"
}

func (p *patient) secure(ctx context.Context, way link.Way, conn net.Conn) (*tls.Conn, Finding) {
	f := Finding{ID: "relay.tls", Tried: "TLS with " + way.Relay().Host}
	t, err := way.Secure(ctx, conn)
	if err != nil {
		f = f.failed(err, "see whether something on the way opens or forbids TLS")
		if c := unverified(err); c != nil {
			f.Found += "; " + describe(c)
		}
		return nil, f
	}
	state := t.ConnectionState()
	leaf := state.PeerCertificates[0]
	f = judgeEnd(f, leaf, describe(leaf)+", "+tls.VersionName(state.Version))
	if !link.Public(state) {
		f.Found += "; only the authorities of 'ca' vouch for it, not this machine's: the relay has a private certificate, or the issuer opens TLS on the way (inspection)"
		if f.Status == OK {
			f.Status, f.Do = Warn, "compare the issuer with the one that the relay's admin names; if it is your inspection, exempting the relay is better"
		}
	}
	return t, f
}

// describe names a certificate's issuer and its end.
func describe(c *x509.Certificate) string {
	left := time.Until(c.NotAfter)
	end := fmt.Sprintf("%d days left", int(left.Hours()/24))
	if left < 0 {
		end = "ended at " + c.NotAfter.UTC().Format(time.DateTime) + " UTC"
	} else if time.Now().Before(c.NotBefore) {
		end = "begins at " + c.NotBefore.UTC().Format(time.DateTime) + " UTC"
	}
	return fmt.Sprintf("issued by %q, %s", c.Issuer.String(), end)
}

// judgeEnd warns of a certificate that nobody seems to renew. One that lives for days is renewed late.
func judgeEnd(f Finding, c *x509.Certificate, said string) Finding {
	left := time.Until(c.NotAfter)
	if left < min(soonEnds, c.NotAfter.Sub(c.NotBefore)/5) {
		return f.is(Warn, said, "have the certificate renewed")
	}
	return f.ok("%s", said)
}

// ask asks for the relay's health over a connection that is there.
func ask(ctx context.Context, relay *url.URL, conn net.Conn) []Finding {
	health := Finding{ID: "relay.health", Tried: "GET " + link.HealthPath}
	clock := Finding{ID: "relay.clock", Tried: "compare this machine's clock with the relay's"}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	began := time.Now()
	resp, body, err := get(ctx, relay, conn)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("no answer in time")
		}
		f := health.is(Fail, err.Error(), "something on the way lets connections open and holds back what they carry: exempt the relay from inspection")
		return append([]Finding{f}, unreached("relay.clock")...)
	}
	if resp.StatusCode != http.StatusOK || strings.TrimSpace(body) != "ok" {
		// The clock of what stands in the relay's place says as much about this machine's.
		return []Finding{health.failed(link.Instead(resp), ""), judgeClock(clock, resp, began)}
	}
	return []Finding{health.ok("the relay says ok"), judgeClock(clock, resp, began)}
}

func get(ctx context.Context, relay *url.URL, conn net.Conn) (*http.Response, string, error) {
	u := *relay
	u.Path = link.HealthPath
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", err
	}
	q.Close = true
	q.Header.Set("User-Agent", "sallyport-agent")
	if err := q.Write(conn); err != nil {
		return nil, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, answerLimit)), q)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	resp.Body = io.NopCloser(strings.NewReader(string(body))) // for the next who looks
	return resp, string(body), err
}

func judgeClock(f Finding, resp *http.Response, began time.Time) Finding {
	there, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return f.skip("the answer has no date")
	}
	// The date was made between the two moments, in whole seconds.
	now := time.Now()
	here := began.Add(now.Sub(began) / 2)
	skew := here.Sub(there.Add(time.Second / 2)).Round(time.Second) // cut off, it is half a second earlier than it was, on average
	way := "ahead of"
	if skew < 0 {
		skew, way = -skew, "behind"
	}
	said := fmt.Sprintf("this machine's clock is %s %s the relay's", skew, way)
	const do = "set this machine's clock (NTP, w32time): Kerberos, certificates and tokens go by it"
	switch {
	case skew > muchSkew:
		return f.is(Fail, said, do)
	case skew > someSkew:
		return f.is(Warn, said, do)
	}
	return f.ok("%s", said)
}

func upgrade(ctx context.Context, way link.Way) Finding {
	f := Finding{ID: "relay.websocket", Tried: "open a WebSocket at " + link.LinkPath}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := way.Upgrade(ctx); err != nil {
		return f.failed(err, "let what stands between here and the relay pass WebSockets")
	}
	return f.ok("opened, the relay speaks the agent's protocol")
}

// unverified is the certificate that was not believed; nil if none was shown.
func unverified(err error) *x509.Certificate {
	wrong, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok || len(wrong.UnverifiedCertificates) == 0 {
		return nil
	}
	return wrong.UnverifiedCertificates[0]
}
