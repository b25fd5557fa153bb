package definition

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// The forms of documents.
const (
	FormSwagger  = "OpenAPI 2.0"
	FormOpenAPI  = "OpenAPI 3"
	FormOpenAPI1 = "OpenAPI 3.1"
	FormPostman  = "Postman"
)

// A Document is a description that was read. It is not changed by what is made of it.
type Document struct {
	// Form is one of the constants above.
	Form string
	root *object // a Postman collection is OpenAPI 3 here
	read Report  // what reading has lost
}

// An Invalid is a document that can be read but is not what it should be.
type Invalid struct {
	Place  string // a JSON pointer
	Reason string
}

func (e *Invalid) Error() string { return fmt.Sprintf("at %s: %s", orRoot(e.Place), e.Reason) }

func orRoot(place string) string {
	if place == "" {
		return "the root"
	}
	return place
}

// Parse reads a document and tells what it is. The error is a *SyntaxError or an *Invalid.
func Parse(data []byte) (*Document, error) {
	root, err := readTree(data)
	if err != nil {
		return nil, err
	}
	d := &Document{root: root}
	switch {
	case root.has("swagger"):
		if v := versionText(root.get("swagger")); v != "2" && !strings.HasPrefix(v, "2.") {
			return nil, &Invalid{"/swagger", fmt.Sprintf("version %q is not known; 2.0 is", v)}
		}
		d.Form = FormSwagger
	case root.has("openapi"):
		switch v := versionText(root.get("openapi")); {
		case v == "3" || v == "3.0" || strings.HasPrefix(v, "3.0."):
			d.Form = FormOpenAPI
		case strings.HasPrefix(v, "3."):
			d.Form = FormOpenAPI1
		default:
			return nil, &Invalid{"/openapi", fmt.Sprintf("version %q is not known; 3.0 and 3.1 are", v)}
		}
	case isPostman(root):
		d.Form = FormPostman
		d.root, err = fromPostman(root, &d.read)
		return d, err
	default:
		return nil, &Invalid{"", "this is neither OpenAPI (no member 'openapi' or 'swagger') nor a Postman collection"}
	}
	return d, d.checkPaths()
}

func versionText(v any) string {
	switch v := v.(type) {
	case string:
		return strings.TrimSpace(v)
	case nil:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

// checkPaths demands the one part without which there is nothing to convert.
func (d *Document) checkPaths() error {
	paths := d.root.get("paths")
	if paths == nil && (d.root.has("webhooks") || d.root.has("components") || d.root.has("paths")) {
		return nil
	}
	if _, ok := paths.(*object); !ok {
		return &Invalid{"/paths", "the document has no object 'paths', so it describes no operation"}
	}
	return nil
}

// Title is the API's title, as its author gave it.
func (d *Document) Title() string { return strings.TrimSpace(d.root.object("info").text("title")) }

// maxHops bounds a chain of references.
const maxHops = 32

// lookup finds the value at a local reference. The pointer is in one form for one place.
func (d *Document) lookup(ref string) (value any, place string, ok bool) {
	fragment, local := strings.CutPrefix(ref, "#")
	if !local {
		return nil, "", false
	}
	if plain, err := url.PathUnescape(fragment); err == nil {
		fragment = plain
	}
	value = d.root
	for i, segment := range strings.Split(fragment, "/") {
		if i == 0 {
			if segment != "" {
				return nil, "", false // "#name": anchors are not followed
			}
			continue
		}
		segment = unescapePointer(segment)
		switch v := value.(type) {
		case *object:
			if !v.has(segment) {
				return nil, "", false
			}
			value = v.get(segment)
		case []any:
			n, err := strconv.Atoi(segment)
			if err != nil || n < 0 || n >= len(v) {
				return nil, "", false
			}
			value = v[n]
		default:
			return nil, "", false
		}
		place = pointer(place, segment)
	}
	return value, place, true
}

// resolve follows the references of parameters, responses and the like to the object itself. ok is false if there is
// none.
func (d *Document) resolve(v any, place string) (o *object, at string, ok bool) {
	for range maxHops {
		o, ok = v.(*object)
		if !ok {
			return nil, place, false
		}
		ref, isRef := o.get("$ref").(string)
		if !isRef {
			return o, place, true
		}
		var found string
		if v, found, ok = d.lookup(ref); !ok {
			return nil, place, false
		}
		place = found
	}
	return nil, place, false
}
