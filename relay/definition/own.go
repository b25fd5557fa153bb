package definition

import (
	"slices"
	"strings"
)

// What a relay serves to a connector's callers by itself lies below this path of the connector's. Power Platform reaches
// only what is in the definition, so it is declared there; makers do not see it (x-ms-visibility internal).
const (
	ownPrefix      = "/_/"
	operationsPath = ownPrefix + "operations/{token}"
	hooksPath      = ownPrefix + "hooks/{token}"
)

// own is how many operations of the relay's a definition has; they count towards the platform's limit.
func (t Target) own() int {
	n := 0
	if t.Ping != "" {
		n++
	}
	if t.Deferred {
		n += 2
	}
	if t.Hooks {
		n++
	}
	return n
}

// withoutOwn is for formats whose readers send no calls of their own.
func (t Target) withoutOwn() Target {
	t.Ping, t.Deferred, t.Hooks = "", false, false
	return t
}

// disown drops what a definition has below the relay's own path: it is from an export, and made anew.
func (b *builder) disown() {
	b.operations = slices.DeleteFunc(b.operations, func(o *operation) bool { return strings.HasPrefix(o.path, ownPrefix) })
}

// own adds the relay's operations.
func (b *builder) own() {
	if b.target.Ping != "" {
		b.testConnection()
	}
	if b.target.Deferred {
		b.add("get", operationsPath, "GetDeferredAnswer", "Get a deferred answer",
			"Answers 202 while a call that takes long is under way, then as the API has. The relay answers it.",
			obj("200", obj("description", "The API's answer"), "202", obj("description", "The call is under way")))
		b.add("delete", operationsPath, "CancelDeferredCall", "Cancel a deferred call",
			"Cancels a call that is under way, or removes its answer. The relay answers it.",
			obj("204", obj("description", "It is cancelled, or removed")))
	}
	if b.target.Hooks {
		b.add("delete", hooksPath, "EndWebhook", "End a webhook",
			"Ends the subscription of a trigger. The relay passes it on to the API.",
			obj("200", obj("description", "The subscription has ended"), "204", obj("description", "The subscription has ended")))
	}
}

// add declares an operation of the relay's and gives the ID that it has.
func (b *builder) add(method, path, id, summary, description string, responses *object) string {
	id = uniqueID(id, b.taken)
	value := obj("operationId", id, "summary", summary, "description", description, "x-ms-visibility", "internal")
	if strings.Contains(path, "{token}") {
		value.set("parameters", []any{obj("name", "token", "in", "path", "required", true, "type", "string",
			"x-ms-summary", "Token", "description", "What follows in the address that the relay gave", "x-ms-url-encoding", "single")})
	}
	value.set("responses", responses)
	b.operations = append(b.operations, &operation{method: method, path: path, pathItem: &object{}, value: value})
	b.ids[id] = id
	return id
}

// testConnection has connections tested by the relay, unless the author tests them otherwise.
func (b *builder) testConnection() {
	id := b.add("get", b.target.Ping, "TestConnection", "Test the connection",
		"Answers when the connection's credential is right. The relay answers it; the API is not called.",
		obj("200", obj("description", "The credential is right", "schema", obj("type", "object"))))
	capabilities := b.root.object("x-ms-capabilities").shallow()
	if test := capabilities.object("testConnection"); b.ids[test.text("operationId")] == "" {
		capabilities.set("testConnection", obj("operationId", id, "parameters", &object{}))
	}
	b.root.set("x-ms-capabilities", capabilities)
}
