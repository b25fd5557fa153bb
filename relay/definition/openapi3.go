package definition

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
)

// OpenAPI3 makes a document of OpenAPI 3 for other callers: that which came in, with the relay's address and the
// connector's authentication; OpenAPI 2.0 is converted to 3.0.
func OpenAPI3(d *Document, t Target) ([]byte, *Report, error) {
	if _, _, _, err := t.address(); err != nil {
		return nil, nil, err
	}
	if d.Form != FormSwagger {
		report := d.read
		return encode(readdressed(d.root, t), "  "), &report, nil
	}
	t = t.withoutOwn()
	t.HostParameter, t.KeepIDs = false, true
	root, report, err := build(d, t, everything(), int(^uint(0)>>1))
	if err != nil {
		return nil, nil, err
	}
	liftValues(root)
	var v2 openapi2.T
	if err := json.Unmarshal(encode(root, ""), &v2); err != nil {
		return nil, nil, fmt.Errorf("read the definition as OpenAPI 2.0: %w", err)
	}
	v3, err := openapi2conv.ToV3(&v2)
	if err != nil {
		return nil, nil, fmt.Errorf("convert the definition to OpenAPI 3: %w", err)
	}
	raw, err := v3.MarshalJSON()
	if err != nil {
		return nil, nil, fmt.Errorf("write the definition as OpenAPI 3: %w", err)
	}
	tree, err := readTree(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("write the definition as OpenAPI 3: %w", err)
	}
	return encode(readdressed(tree, t), "  "), report, nil
}

// liftValues makes definitions of the schemas of members of any name that hold references: openapi2conv does not follow
// those within them.
func liftValues(root *object) {
	definitions := root.object("definitions")
	lift := func(s *object) {
		values := s.object("additionalProperties")
		if values == nil || values.has("$ref") || !hasRef(values) {
			return
		}
		name := "Values"
		for n := 2; definitions.has(name); n++ {
			name = "Values" + num(n).String()
		}
		definitions.set(name, values)
		s.set("additionalProperties", obj("$ref", "#/definitions/"+name))
	}
	for _, p := range root.object("paths").all() {
		for _, op := range p.value.(*object).all() {
			if v, ok := op.value.(*object); ok {
				for _, at := range (&operation{value: v, pathItem: &object{}}).bodies() {
					eachSchema(at.get("schema"), lift)
				}
			}
		}
	}
	for i := 0; i < definitions.len(); i++ { // it grows meanwhile
		eachSchema(definitions.all()[i].value, lift)
	}
}

// readdressed is a document of OpenAPI 3 with our address and our authentication alone.
func readdressed(root *object, t Target) *object {
	out := root.shallow()
	out.set("servers", []any{obj("url", strings.TrimRight(t.URL, "/"))})
	if info := root.object("info"); info != nil && info.has("version") {
		out.set("info", info.with("version", versionText(info.get("version")))) // YAML's 1.10 is a number
	}
	components := out.object("components").shallow()
	components.remove("securitySchemes")
	schemes := &object{}
	for _, s := range t.schemes() {
		schemes.set(s.name, s.scheme3())
	}
	if schemes.len() > 0 {
		components.set("securitySchemes", schemes)
	}
	out.remove("components")
	if components.len() > 0 {
		out.set("components", components)
	}
	out.set("security", append([]any{}, t.requirement()...))
	if paths := root.object("paths"); paths != nil {
		cleaned := &object{}
		for _, p := range paths.all() {
			cleaned.set(p.key, readdressedPath(p.value))
		}
		out.set("paths", cleaned)
	}
	return out.sorted("openapi", "info", "servers", "security", "tags", "paths", "components")
}

func readdressedPath(v any) any {
	item, ok := v.(*object)
	if !ok {
		return v
	}
	out := item.shallow()
	out.remove("servers")
	for _, m := range item.all() {
		if op, ok := m.value.(*object); ok && (op.has("security") || op.has("servers")) {
			op = op.shallow()
			op.remove("security")
			op.remove("servers")
			out.set(m.key, op)
		}
	}
	return out
}

// scheme3 is a way to call in the words of OpenAPI 3.
func (a Auth) scheme3() *object {
	switch a.Kind {
	case AuthBasic:
		return obj("type", "http", "scheme", "basic")
	case AuthOAuth2:
		scopes := &object{}
		for _, s := range a.OAuth2.scopes() {
			scopes.set(s, s)
		}
		authorize, token := a.OAuth2.endpoints()
		return obj("type", "oauth2", "flows", obj("authorizationCode", obj("authorizationUrl", authorize, "tokenUrl", token, "scopes", scopes)))
	}
	_, scheme := a.scheme()
	return scheme
}
