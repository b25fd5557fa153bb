package definition

import (
	"encoding/json"
	"slices"
	"strings"
)

// A position is where in a definition an extension stands.
type position int

const (
	inRoot position = iota
	inPath
	inOperation
	inParameter
	inSchema
	inResponse
	inInfo
)

// microsoft checks one of Microsoft's extensions: whether it may stand here, and whether its value has the form of
// Microsoft's schema. Truths and numbers written as text are mended. Whether what it refers to is there is looked at
// later, when all operations are known.
func microsoft(where position, name string, value any) (any, bool) {
	if !slices.Contains(extensionsAt(where), name) {
		return nil, false
	}
	o, isObject := value.(*object)
	text, isText := value.(string)
	switch name {
	case "x-ms-visibility":
		text = strings.ToLower(strings.TrimSpace(text))
		return text, slices.Contains([]string{"important", "advanced", "internal", "none"}, text) && text != "none"
	case "x-ms-url-encoding":
		return text, text == "single" || text == "double"
	case "x-ms-trigger":
		return text, text == "single" || text == "batch"
	case "x-ms-summary", "x-ms-trigger-hint", "x-ms-deployment-version":
		return text, isText && text != ""
	case "x-ms-notification-url", "x-ms-no-generic-test", "x-ms-safe-operation", "x-ms-localizeDefaultValue", "x-ms-skip-url-encoding",
		"x-ms-require-user-confirmation":
		if isText {
			return strings.EqualFold(text, "true"), strings.EqualFold(text, "true") || strings.EqualFold(text, "false")
		}
		_, ok := value.(bool)
		return value, ok
	case "x-ms-dynamic-values":
		return value, o.text("operationId") != "" || o.has("builtInOperation") || o.has("capability")
	case "x-ms-dynamic-list":
		return value, o.text("operationId") != "" && objectOrNone(o, "parameters")
	case "x-ms-dynamic-schema":
		return only(o, "operationId", "parameters", "value-path"), o.text("operationId") != "" && objectOrNone(o, "parameters")
	case "x-ms-dynamic-properties":
		return only(o, "operationId", "parameters", "itemValuePath"), o.text("operationId") != "" && objectOrNone(o, "parameters")
	case "x-ms-dynamic-tree":
		return value, o.object("open").text("operationId") != ""
	case "x-ms-enum-values":
		return value, enumValues(value)
	case "x-ms-pageable":
		return obj("nextLinkName", o.text("nextLinkName")), o.text("nextLinkName") != ""
	case "x-ms-notification":
		return obj("operationId", o.text("operationId")), o.text("operationId") != ""
	case "x-ms-trigger-metadata":
		return value, o.text("kind") != "" && o.text("mode") != ""
	case "x-ms-api-annotation":
		return annotation(o)
	case "x-ms-media-kind":
		return value, text == "image" || text == "audio"
	case "x-ms-connector-metadata":
		list, ok := value.([]any)
		return value, ok && !slices.ContainsFunc(list, func(v any) bool {
			m, _ := v.(*object)
			_, ok := m.get("propertyValue").(string)
			return m.text("propertyName") == "" || !ok
		})
	case "x-ms-capabilities":
		if where == inOperation {
			on, ok := o.get("chunkTransfer").(bool)
			return obj("chunkTransfer", on), ok
		}
		return capabilities(o)
	case "x-ms-operation-context":
		return obj("simulate", o.get("simulate")), o.object("simulate") != nil
	case "x-ms-enum":
		_, isFlag := o.get("modelAsString").(bool)
		return only(o, "name", "modelAsString"), o.text("name") != "" && (isFlag || !o.has("modelAsString"))
	case "x-ms-notification-content":
		return value, isObject
	}
	return value, true
}

// capabilities keeps what Microsoft's schema knows of them.
func capabilities(o *object) (any, bool) {
	out := only(o, "file-picker", "testConnection")
	if picker := out.object("file-picker"); out.has("file-picker") {
		picker = only(picker, "open", "browse", "value-title", "value-collection", "value-folder-property", "value-media-property")
		if picker.object("open").text("operationId") == "" || picker.has("browse") && picker.object("browse").text("operationId") == "" {
			out.remove("file-picker")
		} else {
			out.set("file-picker", picker)
		}
	}
	if out.object("testConnection").text("operationId") == "" {
		out.remove("testConnection")
	}
	return out, out.len() > 0
}

// extensionsAt are the extensions that Microsoft's schema knows at a position, and those that certified connectors use
// although it does not (x-ms-openai-*, x-ms-keywords, x-ms-require-user-confirmation).
func extensionsAt(where position) []string {
	switch where {
	case inRoot:
		return []string{"x-ms-capabilities", "x-ms-connector-metadata", "x-ms-docs", "x-ms-keywords", "x-ms-openai-manifest", "x-ms-openai-data"}
	case inInfo:
		return []string{"x-ms-deployment-version", "x-ms-api-annotation", "x-ms-keywords"}
	case inPath:
		return []string{"x-ms-notification-content"}
	case inOperation:
		return []string{
			"x-ms-api-annotation", "x-ms-capabilities", "x-ms-no-generic-test", "x-ms-operation-context", "x-ms-pageable",
			"x-ms-safe-operation", "x-ms-summary", "x-ms-trigger", "x-ms-trigger-hint", "x-ms-trigger-metadata", "x-ms-notification",
			"x-ms-visibility", "x-ms-openai-data", "x-ms-openai-manifest", "x-ms-require-user-confirmation",
		}
	case inParameter:
		return []string{
			"x-ms-dynamic-list", "x-ms-dynamic-values", "x-ms-dynamic-tree", "x-ms-enum-values", "x-ms-localizeDefaultValue",
			"x-ms-summary", "x-ms-test-value", "x-ms-trigger-value", "x-ms-url-encoding", "x-ms-visibility",
		}
	case inResponse:
		return []string{"x-ms-summary"}
	case inSchema:
		return []string{
			"x-ms-dynamic-list", "x-ms-dynamic-values", "x-ms-dynamic-schema", "x-ms-dynamic-properties", "x-ms-dynamic-tree", "x-ms-enum",
			"x-ms-enum-values", "x-ms-localizeDefaultValue", "x-ms-media-kind", "x-ms-notification-url", "x-ms-summary",
			"x-ms-test-value", "x-ms-visibility",
		}
	}
	return nil
}

func objectOrNone(o *object, key string) bool {
	_, ok := o.get(key).(*object)
	return ok || !o.has(key)
}

// only keeps these members.
func only(o *object, keys ...string) *object {
	out := &object{}
	for _, m := range o.all() {
		if slices.Contains(keys, m.key) {
			out.set(m.key, m.value)
		}
	}
	return out
}

func enumValues(value any) bool {
	list, ok := value.([]any)
	return ok && len(list) > 0 && !slices.ContainsFunc(list, func(v any) bool {
		o, _ := v.(*object)
		return !o.has("value") || o.text("displayName") == "" || o.len() > 2
	})
}

func annotation(o *object) (any, bool) {
	out := only(o, "family", "revision", "status", "replacement")
	if text, ok := out.get("revision").(string); ok {
		out.set("revision", json.Number(text))
	}
	if r, ok := out.number("revision"); out.has("revision") {
		if n, isCount := count(r); !ok || !isCount || n < 1 {
			return nil, false
		}
	}
	if s := out.text("status"); out.has("status") && s != "Production" && s != "Preview" {
		return nil, false
	}
	if _, isText := out.get("family").(string); out.has("family") && !isText {
		return nil, false
	}
	if r := out.object("replacement"); out.has("replacement") {
		if r == nil || r.text("api") == "" || r.text("operationId") == "" {
			return nil, false
		}
		out.set("replacement", only(r, "api", "operationId"))
	}
	return out, o.len() > 0
}
