package relay

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"sallyport/configs"
	"sallyport/relay/metrics"
)

// Metrics is the internal listener, for Prometheus. It asks nobody who they are: it belongs on loopback or on a network
// that callers do not reach.
type Metrics struct {
	// Listen is its address, host:port: 127.0.0.1:9464. Metrics are at /metrics.
	Listen string `yaml:"listen,required"`
	// Profiles offers Go's profiles as well, at /debug/pprof/. They show memory's contents in part. Default: false.
	Profiles bool `yaml:"profiles"`
}

func (c *Config) checkMetrics(d *configs.Doc) {
	if c.Metrics == nil {
		return
	}
	if _, port, err := net.SplitHostPort(c.Metrics.Listen); err != nil || port == "" {
		d.Errorf("metrics.listen", "%q is no address (write 127.0.0.1:9464)", c.Metrics.Listen)
	}
}

// openMetrics begins to count and opens the internal listener, if it is wanted.
func (r *Relay) openMetrics(ctx context.Context) (err error) {
	if r.config.Metrics == nil {
		return nil
	}
	r.metrics = metrics.New(metrics.Sources{
		Version: r.version, Gateways: r.gateways.Status, Active: func() int { return r.proxy.Active() },
		Connections: r.listener.count, Dropped: r.dropped, Ready: func() bool { return r.unready() == "" }, Expiry: r.expiry,
	})
	if r.internal, err = new(net.ListenConfig).Listen(ctx, "tcp", r.config.Metrics.Listen); err != nil {
		return fmt.Errorf("listen for metrics: %w", err)
	}
	return nil
}

// dropped is how many events each record has lost.
func (r *Relay) dropped() map[string]uint64 {
	lost := map[string]uint64{"store": r.store.Dropped()}
	if r.access != nil {
		lost["access_log"] = r.access.lost.Load()
	}
	if r.syslog != nil {
		lost["syslog"] = r.syslog.Status().Dropped
	}
	return lost
}

// expiry is when the relay's certificate ends, zero without one.
func (r *Relay) expiry() time.Time {
	if r.certificates == nil {
		return time.Time{}
	}
	return r.certificates.Expiry()
}

// serveInternal answers on the internal listener until ctx ends.
func (r *Relay) serveInternal(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", r.metrics.Handler())
	if r.config.Metrics.Profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: log.New(serverLog{r.log}, "", 0),
	}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	r.log.Info("metrics are offered", "at", "http://"+r.internal.Addr().String()+"/metrics", "profiles", r.config.Metrics.Profiles)
	if err := srv.Serve(r.internal); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
