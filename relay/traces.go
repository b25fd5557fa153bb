package relay

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/http/httpguts"

	"sallyport/configs"
	"sallyport/relay/traces"
)

// Traces says where traces of calls go. What a span holds: gateway, connector, method, status, problem, agent, request ID
// and the flow run; no path, no query, no header, no address.
type Traces struct {
	// To is the URL of an OpenTelemetry collector that takes OTLP over HTTP: https://collector.example.com:4318.
	To string `yaml:"to,required"`
	// HeadersFile is a file with header fields for the collector, "Name: value" on each line: its key. Only the relay's
	// account may read it. Default: none.
	HeadersFile string `yaml:"headers_file"`
	// Ratio is the share of calls, 0 to 1, that are traced where the caller has not decided in traceparent. Default: 0.01.
	Ratio *float64 `yaml:"ratio"`
}

// defaultRatio is what traces.ratio is if it is left out.
const defaultRatio = 0.01

func (c *Config) checkTraces(d *configs.Doc) {
	if c.Traces == nil {
		return
	}
	u, err := url.Parse(c.Traces.To)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		d.Errorf("traces.to", "%q is no URL of a collector (write https://collector.example.com:4318)", c.Traces.To)
	}
	if r := c.Traces.Ratio; r != nil && (*r < 0 || *r > 1) {
		d.Errorf("traces.ratio", "%v is no share (write 0 for none, 0.01 for one call in a hundred, 1 for all)", *r)
	}
}

// newTraces makes the tracer; nil if none is wanted.
func newTraces(ctx context.Context, t *Traces, version string, log *slog.Logger) (*traces.Tracer, error) {
	if t == nil {
		return nil, nil
	}
	config := traces.Config{Endpoint: strings.TrimSuffix(t.To, "/"), Ratio: defaultRatio, Version: version, Log: log}
	if t.Ratio != nil {
		config.Ratio = *t.Ratio
	}
	if t.HeadersFile != "" {
		var err error
		if config.Headers, err = readHeaders(t.HeadersFile); err != nil {
			return nil, err
		}
	}
	return traces.New(ctx, config)
}

// readHeaders reads "Name: value" lines. Errors name the line and never its content.
func readHeaders(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read traces.headers_file: %w", err)
	}
	headers, n := map[string]string{}, 0
	for line := range strings.Lines(string(text)) {
		n++
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if value = strings.TrimSpace(value); !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("traces.headers_file: %s:%d is no header field (write Name: value)", file, n)
		}
		headers[name] = value
	}
	return headers, nil
}
