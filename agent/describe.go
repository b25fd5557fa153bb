package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"sallyport/agent/definition"
	"sallyport/agent/upstream"
	"sallyport/agent/winauth/lockout"
)

// Words and forms of API.Definition.
const (
	definitionNone = "none"
	definitionFile = "file:" // before an absolute path, which would be one on the upstream
)

// fetchTimeout bounds reading a definition from the upstream.
const fetchTimeout = time.Minute

// ErrFromUpstream says that a definition is to be read from the API, which was not asked for.
var ErrFromUpstream = errors.New("the definition is read from the API when the agent runs")

// Describe makes what leaves of one API's definition. The API is asked for it only with fetch.
func Describe(ctx context.Context, c *Config, from *API, d Deps, fetch bool) (*definition.Result, error) {
	source := sourceOf(d, from)
	switch {
	case source.none():
		return nil, nil
	case !source.upstream():
		return source.make(ctx, nil)
	case !fetch:
		return nil, ErrFromUpstream
	}
	a := &Agent{config: *c, deps: d, log: d.Log, guard: lockout.New()}
	one, err := a.buildAPI(c, from, nil)
	if err != nil {
		return nil, err
	}
	defer one.transport.Close()
	return source.make(ctx, one.transport)
}

// A source is where an API's definition comes from.
type source struct {
	deps Deps
	api  *API
	etag string // of what was fetched last
}

func sourceOf(d Deps, from *API) *source { return &source{deps: d, api: from} }

func (s *source) none() bool     { return s.api.Definition == definitionNone }
func (s *source) upstream() bool { return strings.HasPrefix(s.api.Definition, "/") }

// files are the paths that the definition is made of.
func (s *source) files() (list []string) {
	if s.api.Definition != "" && !s.none() && !s.upstream() {
		list = append(list, s.file())
	}
	for _, sample := range s.api.Samples {
		for _, f := range []string{sample.Request, sample.Response} {
			if f != "" {
				list = append(list, s.deps.path(f))
			}
		}
	}
	return list
}

func (s *source) file() string {
	return s.deps.path(strings.TrimPrefix(s.api.Definition, definitionFile))
}

// forget has the whole document fetched again: what is not in use must not pass for unchanged.
func (s *source) forget() { s.etag = "" }

// errUnchanged says that the upstream's document is the one that was fetched last.
var errUnchanged = errors.New("unchanged")

// make reads the definition, or drafts one, and cuts it.
func (s *source) make(ctx context.Context, t *upstream.Transport) (*definition.Result, error) {
	o := definition.Options{
		URL: s.api.Address(), Hosts: s.api.LinkHosts,
		Allowed: func(method, path string) bool { return s.api.Policy().DecideTemplate(method, path).Allowed },
	}
	switch {
	case s.api.Definition == "":
		samples, err := s.samples()
		if err != nil {
			return nil, err
		}
		return definition.Skeleton(s.api.Name, s.api.Policy().Rules(), samples, o)
	case s.upstream():
		data, name, err := s.fetch(ctx, t)
		if err != nil {
			return nil, err
		}
		r, err := definition.Cut(name, data, o)
		if err != nil {
			s.forget()
		}
		return r, err
	}
	data, err := readBounded(s.file())
	if err != nil {
		return nil, fmt.Errorf("read 'definition': %w", err)
	}
	return definition.Cut(s.file(), data, o)
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f)
}

func readLimited(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, definition.MaxSize+1))
	if err == nil && len(data) > definition.MaxSize {
		err = fmt.Errorf("it has more than %d bytes", definition.MaxSize)
	}
	return data, err
}

func (s *source) samples() (list []definition.Sample, err error) {
	for _, from := range s.api.Samples {
		method, path, _ := strings.Cut(from.Operation, " ")
		one := definition.Sample{Method: method, Path: path, RequestName: s.deps.path(from.Request), ResponseName: s.deps.path(from.Response)}
		for _, f := range []struct {
			path string
			into *[]byte
		}{{from.Request, &one.Request}, {from.Response, &one.Response}} {
			if f.path == "" {
				continue
			}
			if *f.into, err = readBounded(s.deps.path(f.path)); err != nil {
				return nil, fmt.Errorf("read a sample of %s: %w", from.Operation, err)
			}
		}
		list = append(list, one)
	}
	return list, nil
}

// fetch reads the definition from the API with the API's own credential: at the path on its host, or, if nothing is there,
// below its url. The name is for errors, which callers never see.
func (s *source) fetch(ctx context.Context, t *upstream.Transport) (data []byte, name string, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	base := strings.TrimRight(s.api.Address().EscapedPath(), "/")
	places := []string{s.api.Definition}
	if base != "" {
		places = append(places, base+s.api.Definition)
	}
	for _, place := range places {
		name = s.api.Name + place
		var status int
		if data, status, err = s.get(ctx, t, place); err == nil || status != http.StatusNotFound {
			break
		}
	}
	if err != nil && !errors.Is(err, errUnchanged) {
		err = fmt.Errorf("read the definition from the API at %s: %w", s.api.Definition, err)
	}
	return data, name, err
}

func (s *source) get(ctx context.Context, t *upstream.Transport, place string) (data []byte, status int, err error) {
	q := (&http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Scheme: s.api.Address().Scheme, Host: s.api.Address().Host, Opaque: place},
		Header: http.Header{
			"Accept": {"application/json, application/yaml;q=0.9, */*;q=0.5"}, "User-Agent": {"sallyport-agent"}, "Accept-Encoding": {"gzip"},
		},
	}).WithContext(ctx)
	if s.etag != "" {
		q.Header.Set("If-None-Match", s.etag)
	}
	resp, err := t.RoundTrip(q)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && s.etag != "":
		return nil, resp.StatusCode, errUnchanged
	case resp.StatusCode != http.StatusOK:
		return nil, resp.StatusCode, fmt.Errorf("the API answers %d (%s); redirects are not followed", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	if data, err = readLimited(resp.Body); err != nil {
		return nil, resp.StatusCode, err
	}
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, resp.StatusCode, err
		}
		if data, err = readLimited(z); err != nil {
			return nil, resp.StatusCode, err
		}
	}
	s.etag = resp.Header.Get("ETag")
	return data, resp.StatusCode, nil
}
