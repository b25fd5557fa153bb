package definition

import (
	"fmt"
	"slices"
	"strings"
)

// trigger checks what webhook triggers need.
func (l *linter) trigger(op *linted) {
	urls := 0
	for i, p := range op.parameters {
		if p.flag("x-ms-notification-url") {
			urls++
		}
		if p.text("in") == "body" {
			urls += l.notificationURLs(p.object("schema"), pointer(op.places[i], "schema"), map[string]bool{})
		}
	}
	content := op.item.object("x-ms-notification-content")
	isTrigger := op.value.has("x-ms-trigger")
	if urls > 0 && isTrigger && content == nil {
		l.warn("OperationMustHaveNotificationContentExtension", op.place, "The trigger does not say what it receives.", "Write x-ms-notification-content at the path.")
	}
	if content != nil && isTrigger && op.method == "post" && urls == 0 {
		l.errorf("WebhookOperationsMissingNotificationUrlProperty", op.place, "The webhook trigger has no property for the callback address.", "Mark it with x-ms-notification-url.")
	}
	if urls > 0 && isTrigger && !slices.ContainsFunc(l.ops, func(o *linted) bool { return o.method == "delete" }) {
		l.warn("OperationIdNotFound", op.place, "The definition has no DELETE operation: the webhook is never taken back.", "Describe the operation that Location leads to, with \"x-ms-visibility\": \"internal\".")
	}
	if urls > 0 && isTrigger {
		l.warn("WebhookReachability", op.place, "The API must be able to reach the flow's callback address (https://*.logic.azure.com).", "Let it out to that address, or use a polling trigger.")
	}
	if s := content.object("schema"); s != nil {
		l.body(s, pointer(op.place[:strings.LastIndexByte(op.place, '/')], "x-ms-notification-content", "schema"), op, false)
	}
	if n := op.value.object("x-ms-notification").text("operationId"); n != "" {
		if !isTrigger {
			l.errorf("NotificationExtensionSupportedForTriggerOnly", op.place, "'x-ms-notification' is for triggers only.", "Remove it.")
		}
		l.refers(n, op.place+"/x-ms-notification")
	}
}

// notificationURLs counts the properties for the callback address and checks their form.
func (l *linter) notificationURLs(s *object, place string, seen map[string]bool) int {
	if name, ok := strings.CutPrefix(s.text("$ref"), "#/definitions/"); ok {
		if seen[name] {
			return 0
		}
		seen[name] = true
		return l.notificationURLs(l.doc.root.object("definitions").object(name), pointer("/definitions", name), seen)
	}
	n := 0
	for _, p := range s.object("properties").all() {
		child, _ := p.value.(*object)
		at := pointer(place, "properties", p.key)
		if child.flag("x-ms-notification-url") {
			n++
			if child.text("type") != "string" {
				l.errorf("NotificationUrlNotString", at, "The callback address must be of type string.", "Correct it.")
			}
			if child.text("x-ms-visibility") != "internal" {
				l.warn("NotificationUrlNotInternal", at, "The callback address must be internal: Power Platform fills it in.", `Write "x-ms-visibility": "internal".`)
			}
			if !slices.Contains(s.list("required"), any(p.key)) {
				l.warn("NotificationUrlNotRequired", at, "The callback address must be required.", "Add it to 'required'.")
			}
			continue
		}
		n += l.notificationURLs(child, at, seen)
	}
	return n
}

func (l *linter) refers(id, place string) *linted {
	op := l.byID[strings.ToLower(id)]
	if op == nil || op.id != id {
		l.errorf("OperationIdNotFound", place, fmt.Sprintf("The operationId '%s' could not be found in this definition.", shorten(id, 80)), "Describe that operation, or remove the reference.")
		return nil
	}
	return op
}

// dynamics checks the operations that extensions call, and the parameters they give them.
func (l *linter) dynamics(v any, place string, op *linted) {
	switch v := v.(type) {
	case []any:
		for i, one := range v {
			l.dynamics(one, pointer(place, num(i).String()), op)
		}
	case *object:
		for _, m := range v.all() {
			at := pointer(place, m.key)
			o, _ := m.value.(*object)
			switch m.key {
			case "x-ms-dynamic-values", "x-ms-dynamic-schema", "x-ms-dynamic-list", "x-ms-dynamic-properties":
				l.call(o, at)
				if m.key == "x-ms-dynamic-values" && v.text("in") == "body" {
					l.warn("DynamicExtensionDefinitionNotAllowedInParameter", at, "Dynamic extensions belong into the body's schema.", "Move it there.")
				}
			case "x-ms-dynamic-tree":
				l.call(o.object("open"), pointer(at, "open"))
				if o.has("browse") {
					l.call(o.object("browse"), pointer(at, "browse"))
				}
			default:
				if m.key == "x-ms-enum-values" {
					l.enumValues(v, at)
				}
				l.dynamics(m.value, at, op)
			}
		}
	}
}

// call checks that an operation is there and gets what it requires.
func (l *linter) call(o *object, place string) {
	id := o.text("operationId")
	if id == "" {
		return
	}
	target := l.refers(id, place)
	if target == nil {
		return
	}
	given := o.object("parameters")
	for _, p := range target.parameters {
		if p.flag("required") && !p.has("default") && p.text("in") != "body" && !given.has(p.text("name")) &&
			!slices.ContainsFunc(given.all(), func(m member) bool { return strings.HasSuffix(m.key, "/"+p.text("name")) }) {
			l.warn("OperationMissingRequiredProperty", place, fmt.Sprintf("The operation '%s' requires the parameter '%s'.", id, p.text("name")), "Give it in 'parameters'.")
		}
	}
}

func (l *linter) enumValues(s *object, place string) {
	seen := map[string]bool{}
	for _, v := range s.list("x-ms-enum-values") {
		o, _ := v.(*object)
		text := scalarText(o.get("value"))
		if seen[text] {
			l.errorf("DuplicateEnumValuesInExtension", place, "The extension has duplicate values.", "Remove one.")
		}
		seen[text] = true
		if enum := s.list("enum"); enum != nil && !slices.ContainsFunc(enum, func(e any) bool { return equal(e, o.get("value")) }) {
			l.errorf("InvalidEnumValuesExtensionValue", place, "A value is not among those of 'enum'.", "Correct it.")
		}
	}
}
