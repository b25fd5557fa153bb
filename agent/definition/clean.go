package definition

import (
	"fmt"
	"strings"
)

// A place says what the keys of a mapping are.
type place uint8

const (
	isObject place = iota // words of OpenAPI
	isNames               // names that the author chose, each with an object
)

// namesIn says that the keys of this member's value are names.
func namesIn(key string) bool {
	switch key {
	case "properties", "patternProperties", "definitions", "$defs", "dependentSchemas", "headers", "responses", "schemas",
		"parameters", "requestBodies", "links", "callbacks", "pathItems", "content", "encoding", "paths", "examples",
		"variables", "mapping", "securitySchemes", "dependencies", "dependentRequired", "scopes":
		return true
	}
	return false
}

// isData says that this member's value is the author's data, in which no word means anything.
func isData(key string) bool {
	switch key {
	case "example", "default", "enum", "const", "value":
		return true
	}
	return strings.HasPrefix(key, "x-")
}

// keepExtension says that an extension leaves: Power Platform's, and those that name values. Others are for programs inside,
// and often have their addresses.
func keepExtension(key string) bool {
	switch key {
	case "x-ms-paths", "x-ms-parameterized-host", "x-ms-examples":
		return false
	case "x-nullable", "x-enumNames", "x-enum-varnames", "x-enum-descriptions", "x-example", "x-examples":
		return true
	}
	return strings.HasPrefix(key, "x-ms-")
}

// clean takes out, wherever it stands, what is about other places and other operations.
func (c *cutter) clean(n *node, at string, p place) {
	kept := n.kids[:0]
	for i, k := range n.kids {
		where := step(at, n, i)
		if why := c.unwanted(n, k, p); why != "" {
			c.report.strip(where, why)
			continue
		}
		kept = append(kept, k)
		switch {
		case n.kind == isMap && p == isObject && isData(k.key):
		case n.kind == isMap && p == isObject && namesIn(k.key) && k.node.isMap():
			c.clean(k.node, where, isNames)
		case k.key == "callbacks":
			c.clean(k.node, where, p)
		default:
			c.clean(k.node, where, isObject)
		}
	}
	n.kids = kept
}

// unwanted says why a member does not leave; "" if it does.
func (c *cutter) unwanted(n *node, k kid, p place) string {
	if n.kind != isMap {
		return ""
	}
	if p == isNames {
		if id := k.node.get("operationId"); id != nil && k.node.get("responses") == nil && !c.kept[id.text] { // a link
			return "it is about an operation that does not leave"
		}
		return ""
	}
	switch k.key {
	case "externalDocs", "server", "servers", "operationRef", "security":
		if k.key == "servers" && n.get("paths") != nil {
			return "" // the document's, made by us
		}
		return "an address, or a matter of the place inside"
	}
	switch {
	case !strings.HasPrefix(k.key, "x-"):
		return ""
	case !keepExtension(k.key):
		return "an extension that is not Power Platform's"
	case c.namesCut(k.node):
		return "it is about an operation that does not leave"
	}
	return ""
}

// namesCut reports whether an extension names an operation that does not leave.
func (c *cutter) namesCut(n *node) bool {
	for _, k := range n.kids {
		if (k.key == "operationId" || k.key == "operationName") && k.node.kind == isString && !c.kept[k.node.text] {
			return true
		}
		if c.namesCut(k.node) {
			return true
		}
	}
	return false
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
