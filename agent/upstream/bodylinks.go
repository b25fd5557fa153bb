package upstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// nextLinks are the members that hold the address of the next page, in OData and in Microsoft's other APIs. An API that asks
// for any link in its bodies gets these as well.
var nextLinks = [...]string{"@odata.nextLink", "@odata.deltaLink", "nextLink"}

const (
	// maxLinkPaths and maxLinkSteps bound Config.Links: each path is looked at for each value of a body.
	maxLinkPaths = 32
	maxLinkSteps = 31
	// wholeBody is the largest body that is read whole before any of it goes on, in bytes: then one that is not JSON is known
	// in time and passes as it is.
	wholeBody = 64 << 10
)

// A linkPath says where in a JSON body a link stands: the names of members from the root on, "*" for any member or item,
// "**" for any number of them.
type linkPath []string

// parseLinkPaths reads Config.Links: JSON pointers with "*" and "**" ("/value/*/href"), or names of members wherever they
// stand ("nextLink").
func parseLinkPaths(list []string) ([]linkPath, error) {
	if len(list) == 0 {
		return nil, nil
	}
	var out []linkPath
	for _, text := range append(list[:len(list):len(list)], nextLinks[:]...) {
		steps := []string{"**", text}
		if rest, ok := strings.CutPrefix(text, "/"); ok {
			steps = strings.Split(rest, "/")
			for i, s := range steps {
				steps[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(s)
			}
		}
		switch {
		case text == "" || strings.HasSuffix(text, "/"):
			return nil, fmt.Errorf("links: %q is no place in a JSON body (write /value/*/href, or the name of a member)", text)
		case len(steps) > maxLinkSteps:
			return nil, fmt.Errorf("links: %q has more than %d steps", text, maxLinkSteps)
		}
		out = append(out, steps)
	}
	if len(out) > maxLinkPaths+len(nextLinks) {
		return nil, fmt.Errorf("links: more than %d places", maxLinkPaths)
	}
	return out, nil
}

// CheckLinks says what is wrong with a list for Config.Links.
func CheckLinks(list []string) error {
	_, err := parseLinkPaths(list)
	return err
}

// positions is a set of places in a linkPath: bit i says that the first i steps have matched.
type positions uint32

// skip adds the places behind a "**", which may stand for nothing.
func (p linkPath) skip(at positions) positions {
	for i, s := range p {
		if s == "**" && at&(1<<i) != 0 {
			at |= 1 << (i + 1)
		}
	}
	return at
}

// into goes one step down: to the member of this name, or to an item (name is then "", and isItem true).
func (p linkPath) into(at positions, name string, isItem bool) (next positions) {
	for i, s := range p {
		switch {
		case at&(1<<i) == 0:
		case s == "**":
			next |= 1 << i
		case s == "*", s == name && !isItem:
			next |= 1 << (i + 1)
		}
	}
	return p.skip(next)
}

func (p linkPath) done(at positions) bool { return at&(1<<len(p)) != 0 }

// bodyLinks says whether the links in the body of this answer are to be made public. Left alone are bodies whose bytes
// somebody has counted or signed: a part (206), a digest; and encoded ones, which were not asked for.
func (t *Transport) bodyLinks(resp *http.Response) bool {
	h := resp.Header
	if len(t.paths) == 0 || resp.StatusCode == http.StatusPartialContent || len(h["Content-Range"]) > 0 {
		return false
	}
	for _, digest := range [...]string{"Content-Digest", "Repr-Digest", "Digest", "Content-Md5"} {
		if len(h[digest]) > 0 {
			return false
		}
	}
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return false
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	isJSON := kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json")
	charset := strings.ToLower(params["charset"])
	return err == nil && isJSON && (charset == "" || charset == "utf-8" || charset == "utf8" || charset == "us-ascii")
}

// withLinks gives a body whose links are public. length is the body's, -1 if it is not known.
func (t *Transport) withLinks(body io.Reader, length int64, public string) io.Reader {
	s := newLinkScanner(t.links, t.paths, public)
	if length < 0 || length > wholeBody {
		return &linkReader{src: body, scan: s}
	}
	data, err := io.ReadAll(body)
	if err == nil {
		err = io.EOF
		if json.Valid(bytes.TrimPrefix(data, byteOrderMark)) {
			data = s.end(s.feed(nil, data))
		}
	}
	return &linkReader{out: data, err: err}
}

// A linkReader reads a body through a linkScanner.
type linkReader struct {
	src  io.Reader
	scan *linkScanner
	in   []byte
	out  []byte // not read yet
	room []byte // what out is made in
	err  error  // of src, once out is read
}

func (r *linkReader) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.in == nil {
			r.in = make([]byte, atOnce)
		}
		n, err := r.src.Read(r.in)
		r.room = r.scan.feed(r.room[:0], r.in[:n])
		if err != nil {
			r.room, r.err = r.scan.end(r.room), err
		}
		r.out = r.room
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}
