package definition

import (
	"fmt"
	"slices"
	"strings"
)

func (l *linter) parameter(op *linted, p *object, place string) {
	name, in := p.text("name"), p.text("in")
	switch {
	case name == "":
		l.errorf("RequiredPropertyMissing", place+"/name", "The 'name' property is required.", "Write it.")
	case !slices.Contains([]string{"query", "header", "path", "formData", "body"}, in):
		l.errorf("JsonValueNotInEnum", place+"/in", "The 'in' property must be query, header, path, formData or body.", "Correct it.")
		return
	case strings.EqualFold(name, "connectionId") && in != "body":
		l.errorf("ConnectionIdParameterNotAllowed", place, "A parameter cannot be named 'connectionId'.", "Remove or rename it.")
	case strings.EqualFold(name, "Authorization") && in != "body":
		l.errorf("ReservedParameterIsUsed", place, "The parameter 'Authorization' is reserved.", "Remove it: the connection sends it.")
	}
	l.known(inParameter, p, place)
	if in == "body" {
		l.bodyParameter(op, p, place)
		return
	}
	if p.has("schema") {
		l.errorf("NonBodyParameterSchemaNotValid", place, "Only a body parameter can have a schema.", "Write 'type' beside 'in'.")
	}
	switch kind := p.text("type"); {
	case kind == "file" && in != "formData":
		l.errorf("FileParameterMustBeInFormData", place, "A parameter of type 'file' must be in formData.", "Write it there.")
	case kind == "file":
	case !slices.Contains([]string{"string", "number", "integer", "boolean", "array"}, kind):
		l.errorf("JsonValueNotInEnum", place+"/type", "The 'type' must be string, number, integer, boolean or array.", "Correct it.")
	default:
		l.value(p, place)
	}
	switch in {
	case "path":
		l.pathParameter(op, p, place)
	case "query":
		if p.has("x-ms-url-encoding") {
			l.warn("QueryParameterEncodingNotSupported", place, "Query parameters are single encoded; x-ms-url-encoding has no effect.", "Remove it.")
		}
	case "formData":
		if strings.ContainsFunc(name, func(r rune) bool { return r > 126 }) {
			l.errorf("InvalidFormDataParameterName", place, "A form's field must have an ASCII name.", "Rename it.")
		}
	}
	if f := p.text("collectionFormat"); p.has("collectionFormat") && (!slices.Contains([]string{"csv", "ssv", "tsv", "pipes", "multi"}, f) || f == "multi" && in != "query" && in != "formData") {
		l.errorf("CollectionFormatValueNotSupported", place, fmt.Sprintf("The collectionFormat '%s' is not supported here.", f), "Write csv.")
	}
	if p.flag("allowEmptyValue") && in != "query" && in != "formData" {
		l.errorf("AllowEmptyValueOnlyValidForQueryFormData", place, "'allowEmptyValue' is for query and formData.", "Remove it.")
	}
	l.internal(p, place, p.flag("required"))
}

func (l *linter) pathParameter(op *linted, p *object, place string) {
	if !p.flag("required") {
		l.errorf("PathParameterMustBeRequired", place, "A path parameter must be required.", `Write "required": true.`)
	}
	if !strings.Contains(op.path, "{"+p.text("name")+"}") {
		l.errorf("PathParameterNotDefinedInTemplate", place, fmt.Sprintf("The path has no variable '%s'.", p.text("name")), "Remove the parameter, or write it into the path.")
	}
	if !p.has("x-ms-url-encoding") {
		l.warn("PathParameterMissingEncoding", place, fmt.Sprintf("The encoding of the path parameter '%s' is not said.", p.text("name")), `Write "x-ms-url-encoding": "single".`)
	}
}

func (l *linter) internal(o *object, place string, required bool) {
	if o.text("x-ms-visibility") != "internal" || o.flag("x-ms-notification-url") || o.has("properties") || o.has("$ref") {
		return
	}
	if required && !o.has("default") {
		l.errorf("PropertyMustBeRequired", place, "It is internal and required, but has no default: nothing gives its value.", "Write a default, or make it visible.")
	}
}

func (l *linter) bodyParameter(op *linted, p *object, place string) {
	s, ok := p.get("schema").(*object)
	if !ok {
		l.errorf("BodyParameterSchemaRequired", place, "The body parameter must define a schema.", "Write it.")
		return
	}
	for _, m := range p.all() {
		if slices.Contains([]string{"type", "format", "items", "enum", "default", "properties"}, m.key) {
			l.errorf("BodyParameterPropertyNotValid", pointer(place, m.key), fmt.Sprintf("A body parameter cannot have '%s'.", m.key), "Write it into the schema.")
		}
	}
	l.body(s, place+"/schema", op, true)
}

// body checks a schema that is a whole body.
func (l *linter) body(s *object, place string, op *linted, input bool) {
	l.schema(s, place, true, input)
	size := l.sizes.size(s, unlimited)
	if l.total += size; size > MaxBodySchemas {
		l.errorf("BodySchemaCountExceedsMaxAllowed", place, fmt.Sprintf("The body has more than %d schemas.", MaxBodySchemas), "Leave out members that flows do not need.")
	}
	eachRef(s, func(_ *object, name string) {
		if _, finite := l.sizes.heights[name]; !finite && l.sizes.definitions.has(name) {
			l.errorf("SchemaRefLoopNotAllowed", place, fmt.Sprintf("The schema '%s' contains itself.", name), "Write an object without members where it does.")
		}
	})
}

func (l *linter) definitions() {
	for _, d := range l.doc.root.object("definitions").all() {
		if s, ok := d.value.(*object); ok {
			l.schema(s, pointer("/definitions", d.key), true, false)
		} else {
			l.errorf("JsonTypeIncorrect", pointer("/definitions", d.key), "A definition must be an object.", "Write a schema.")
		}
	}
}

// schema checks one and those within it.
func (l *linter) schema(s *object, place string, top, input bool) {
	if ref, ok := s.get("$ref").(string); ok {
		l.reference(s, ref, place)
		return
	}
	l.known(inSchema, s, place)
	for _, word := range []string{"oneOf", "anyOf", "not", "nullable", "const", "patternProperties", "if", "$defs", "prefixItems"} {
		if s.has(word) {
			l.errorf("AdditionalPropertyNotAllowed", pointer(place, word), fmt.Sprintf("OpenAPI 2.0 has no '%s'.", word), "Remove it, or describe one shape that holds.")
		}
	}
	if s.has("allOf") {
		l.warn("SwaggerKeywordNotSupported", pointer(place, "allOf"), "The designer does not show members that come by 'allOf'.", "Write all members into one schema.")
	}
	kind, isText := s.get("type").(string)
	if s.has("type") && (!isText || !slices.Contains([]string{"string", "number", "integer", "boolean", "array", "object", "file"}, kind)) {
		l.errorf("JsonValueNotInEnum", place+"/type", "The 'type' must be one of string, number, integer, boolean, array, object.", "Write one type.")
	}
	l.value(s, place)
	if s.text("format") == "binary" && kind == "string" && !top {
		l.errorf("InvalidStringBinaryProperty", place, "Binary content can only be a whole body or a form's field.", "Send it as base64 ('byte'), or as a body of its own.")
	}
	l.members(s, place, kind, input)
	for _, key := range []string{"items", "additionalProperties"} {
		if child, ok := s.get(key).(*object); ok {
			l.schema(child, pointer(place, key), false, input)
		}
	}
	for i, v := range s.list("allOf") {
		if child, ok := v.(*object); ok {
			l.schema(child, pointer(place, "allOf", num(i).String()), false, input)
		}
	}
}

func (l *linter) reference(s *object, ref, place string) {
	if !strings.HasPrefix(ref, "#/definitions/") {
		l.errorf("SchemaReferenceNotValid", place, "Schema references must start with '#/definitions/'.", "Move the schema there.")
	} else if _, _, ok := l.doc.lookup(ref); !ok {
		l.errorf("SchemaReferenceNotFound", place, fmt.Sprintf("The schema reference '%s' could not be found.", shorten(ref, 100)), "Define it.")
	}
	if s.len() > 1 {
		l.warn("AdditionalPropertyNotAllowedAdjacentToRef", place, "Nothing may stand beside '$ref'.", "Write it into the definition, or make another one.")
	}
}

func (l *linter) members(s *object, place, kind string, input bool) {
	props := s.object("properties")
	required, isList := s.get("required").([]any)
	if s.has("required") && isList {
		switch {
		case len(required) == 0:
			l.errorf("RequiredPropertyArrayEmpty", place+"/required", "The 'required' array requires at least one value.", "Remove it.")
		case kind != "object" && kind != "":
			l.errorf("RequiredPropertyNotOnObject", place+"/required", "'required' is for objects.", "Remove it.")
		}
		for _, name := range texts(required) {
			if !props.has(name) {
				l.warn("RequiredPropertyDefinitionMissing", place+"/required", fmt.Sprintf("The required property '%s' is not defined.", shorten(name, 80)), "Describe it, or do not require it.")
			} else if props.object(name).flag("readOnly") && input {
				l.warn("RequiredReadOnlyPropertyNotAllowedAsInput", pointer(place, "properties", name), "A property that is required cannot be read-only in a request.", "Do not require it.")
			}
		}
	} else if s.has("required") {
		l.errorf("JsonTypeIncorrect", place+"/required", "In a schema 'required' is a list of names.", "Write the list at the object.")
	}
	for _, p := range props.all() {
		child, ok := p.value.(*object)
		if !ok {
			l.errorf("JsonTypeIncorrect", pointer(place, "properties", p.key), "A property must be a schema.", "Write an object.")
			continue
		}
		l.internal(child, pointer(place, "properties", p.key), slices.Contains(required, any(p.key)))
		l.schema(child, pointer(place, "properties", p.key), false, input)
	}
	if d, ok := s.get("discriminator").(string); ok && (!slices.Contains(required, any(d)) || props.object(d).text("type") != "string") {
		l.errorf("DiscriminatorMustBeARequiredStringProperty", place, "The discriminator must be a required text of the schema.", "Remove it, or require that property.")
	}
}

// value checks the words of plain values and lists.
func (l *linter) value(s *object, place string) {
	kind, format := s.text("type"), s.text("format")
	if format != "" && !slices.Contains(formatsOf(kind), format) {
		l.warn("UnrecognizedTypeFormat", place, fmt.Sprintf("The type/format '%s/%s' is not recognized.", kind, shorten(format, 40)), "Remove the format.")
	}
	if kind == "array" {
		if _, ok := s.get("items").(*object); !ok {
			l.errorf("ArrayHasNoItems", place, "The array should have items specified.", `Write "items": {}.`)
		}
	}
	enum, isList := s.get("enum").([]any)
	if s.has("enum") && (!isList || len(enum) == 0) {
		l.errorf("EnumMustContainAtLeastOneElement", place+"/enum", "The 'enum' array requires at least one value.", "Remove it.")
	}
	for i, v := range enum {
		if kind != "array" && v != nil && !fits(v, kind) {
			l.errorf("InvalidEnumValue", pointer(place, "enum", num(i).String()), fmt.Sprintf("The value is of type '%s', not '%s'.", kindOf(v), kind), "Correct the value or the type.")
		}
		if slices.ContainsFunc(enum[:i], func(o any) bool { return equal(o, v) }) {
			l.errorf("ArrayDuplicateValue", place+"/enum", "The array contains duplicate values.", "Remove one.")
		}
	}
	if s.has("default") && s.get("default") != nil && !fits(s.get("default"), kind) {
		l.errorf("DefaultValueMustMatchType", place+"/default", fmt.Sprintf("The default is of type '%s', not '%s'.", kindOf(s.get("default")), kind), "Correct the default or the type.")
	}
	l.ranges(s, place)
	if p := s.text("pattern"); p != "" && !goodPattern(p) {
		l.errorf("PatternShouldBeValidRegularExpression", place+"/pattern", "The 'pattern' is no regular expression.", "Correct or remove it.")
	}
}

func (l *linter) ranges(s *object, place string) {
	for _, pair := range [][3]string{
		{"minimum", "maximum", "Minimum"}, {"minLength", "maxLength", "MinLength"}, {"minItems", "maxItems", "MinItems"},
	} {
		low, okLow := numberOf(s.get(pair[0]))
		high, okHigh := numberOf(s.get(pair[1]))
		if okLow && okHigh && low > high {
			l.warn(pair[2]+"ShouldBeLessThanOrEqualTo"+strings.ToUpper(pair[1][:1])+pair[1][1:], place, fmt.Sprintf("'%s' is greater than '%s'.", pair[0], pair[1]), "Correct them.")
		}
		if pair[0] != "minimum" && (okLow && low < 0 || okHigh && high < 0) {
			l.errorf(pair[2]+"MustBeGreaterThanOrEqualToZero", place, fmt.Sprintf("'%s' and '%s' cannot be negative.", pair[0], pair[1]), "Correct them.")
		}
	}
	for _, pair := range [][3]string{{"exclusiveMinimum", "minimum", "ExclusiveMinimumRequiresMinimum"}, {"exclusiveMaximum", "maximum", "ExclusiveMaximumRequiresMaximum"}} {
		if s.has(pair[0]) && !s.has(pair[1]) {
			l.errorf(pair[2], place, fmt.Sprintf("'%s' needs '%s'.", pair[0], pair[1]), "Write both.")
		}
	}
	if m, ok := numberOf(s.get("multipleOf")); ok && m <= 0 {
		l.errorf("MultipleOfMustBeGreaterThanZero", place, "'multipleOf' must be greater than zero.", "Correct it.")
	}
}
