package definition

import (
	"fmt"
	"slices"
	"strings"
)

func (l *linter) paths() {
	paths, ok := l.doc.root.get("paths").(*object)
	if !ok {
		l.errorf("RequiredPropertyMissing", "/paths", "The 'paths' property is required.", "Write an object of paths.")
		return
	}
	l.byID = map[string]*linted{}
	folded, forms := map[string]string{}, map[string]*linted{}
	for _, p := range paths.all() {
		place := pointer("/paths", p.key)
		item, isObject := p.value.(*object)
		switch {
		case strings.HasPrefix(p.key, "x-"):
			continue
		case !isObject:
			l.errorf("JsonTypeIncorrect", place, "A path must be an object.", "Write its operations.")
			continue
		}
		l.path(p.key, place, item)
		if other, ok := folded[strings.ToLower(p.key)]; ok {
			l.errorf("PathRedefined", place, fmt.Sprintf("The path is defined as %s, too: paths are compared without case.", other), "Merge the two.")
		}
		folded[strings.ToLower(p.key)] = p.key
		for _, m := range item.all() {
			if !slices.Contains(methods(), m.key) {
				continue
			}
			op := l.gather(m.key, p.key, pointer(place, m.key), item)
			form := m.key + " " + strings.ToLower(variable.ReplaceAllString(p.key, "{}"))
			if other := forms[form]; other != nil {
				l.errorf("DuplicateOperationPath", op.place, fmt.Sprintf("The operations '%s' and '%s' cannot be told apart by their paths.", other.id, op.id), "Make a fixed part differ.")
			}
			forms[form] = op
			l.ops = append(l.ops, op)
		}
	}
	if n := len(l.ops); n > MaxOperations {
		l.errorf("TotalOperationsCountExceedsMaxAllowed", "/paths", fmt.Sprintf("The definition has %d operations, more than %d.", n, MaxOperations), "Publish it as several connectors.")
	}
	l.sizes = newLeveler(orObject(l.doc.root.object("definitions")), &Report{})
	for _, op := range l.ops {
		l.operation(op)
	}
	l.families()
	for _, op := range l.ops {
		l.dynamics(op.value, op.place, op)
	}
}

func orObject(o *object) *object {
	if o == nil {
		return &object{}
	}
	return o
}

func (l *linter) path(path, place string, item *object) {
	rest := variable.ReplaceAllString(path, "")
	switch {
	case !strings.HasPrefix(path, "/"):
		l.errorf("OperationPathMustStartWithSlash", place, "The path must start with a '/'.", "Put a slash before it.")
	case strings.ContainsAny(path, "?#"):
		l.errorf("OperationPathMayNotContainQueryOrFragment", place, "The path must not contain a query or fragment.", "Make query parameters of it.")
	case strings.Contains(rest, "*"):
		l.errorf("OperationPathContainsUnsupportedCharacters", place, "The path cannot contain '*'.", "Use a path parameter.")
	case strings.ContainsAny(rest, "{}"):
		l.errorf("OperationPathTemplateNotValid", place, "Each '{' needs its '}' within one segment.", "Correct the braces.")
	}
	for _, m := range variable.FindAllString(path, -1) {
		if strings.Contains(m, "=") {
			l.errorf("OperationPathVariablesContainDefaults", place, "A path's variable cannot have a default.", "Write it at the parameter.")
		}
	}
	if item.has("$ref") {
		l.errorf("PathItemRefNotSuppored", place, "The '$ref' property in a path is not supported.", "Write the path's operations here.")
	}
	l.known(inPath, item, place)
}

// gather resolves an operation's parameters, the path's included.
func (l *linter) gather(method, path, place string, item *object) *linted {
	value := orObject(item.object(method))
	op := &linted{method: method, path: path, id: value.text("operationId"), place: place, value: value, item: item}
	own := map[string]bool{}
	read := func(list []any, at string, inherited bool) {
		seen := map[string]bool{}
		for i, v := range list {
			p, found, ok := l.doc.resolve(v, pointer(at, num(i).String()))
			if !ok {
				l.errorf("ParameterReferenceNotFound", pointer(at, num(i).String()), "The parameter reference could not be found.", "Define it in 'parameters', or write the parameter here.")
				continue
			}
			key := p.text("in") + " " + p.text("name")
			if seen[key] {
				l.errorf("OperationParametersContainDuplicateParameter", pointer(at, num(i).String()), fmt.Sprintf("The parameter '%s' (%s) is there twice.", p.text("name"), p.text("in")), "Remove one.")
				continue
			}
			seen[key] = true
			if inherited && own[key] {
				continue
			}
			own[key] = true
			op.parameters, op.places = append(op.parameters, p), append(op.places, found)
		}
	}
	read(value.list("parameters"), pointer(place, "parameters"), false)
	read(item.list("parameters"), pointer(place[:strings.LastIndexByte(place, '/')], "parameters"), true)
	return op
}

func (l *linter) operation(op *linted) {
	l.id(op)
	l.words(op)
	l.media(op.value, op.place, "consumes")
	l.media(op.value, op.place, "produces")
	l.known(inOperation, op.value, op.place)
	body, form := 0, 0
	for i, p := range op.parameters {
		switch p.text("in") {
		case "body":
			body++
		case "formData":
			form++
		}
		l.parameter(op, p, op.places[i])
	}
	if (body > 0 || form > 0) && withoutBody(op.method) {
		l.errorf("BodyOrFormDataParameterInFetchOperationNotAllowed", op.place, fmt.Sprintf("A %s cannot have a body or form data.", strings.ToUpper(op.method)), "Remove the parameter, or use POST.")
	}
	if body > 1 {
		l.errorf("OperationParametersContainMultipleBodyParameters", op.place, "There is more than one body parameter.", "Make one object of them.")
	}
	if body > 0 && form > 0 {
		l.errorf("ParameterListContainsFormDataAndBody", op.place, "There are both a body and form data.", "Keep one of the two.")
	}
	for _, m := range variable.FindAllStringSubmatch(op.path, -1) {
		if !slices.ContainsFunc(op.parameters, func(p *object) bool { return p.text("in") == "path" && p.text("name") == m[1] }) {
			l.errorf("OperationMissingPathParameter", op.place, fmt.Sprintf("The path's variable '%s' is not described.", m[1]), "Add a parameter with \"in\": \"path\".")
		}
	}
	l.consumes(op, body > 0, form > 0)
	l.responses(op)
	l.trigger(op)
	if next := op.value.object("x-ms-pageable").text("nextLinkName"); next != "" && next != "nextLink" && next != "@odata.nextLink" {
		l.errorf("InvalidNextLinkNameValue", op.place+"/x-ms-pageable", "nextLinkName must be 'nextLink' or '@odata.nextLink'.", "Rename it with the policy updatenextlink.")
	}
}

func (l *linter) id(op *linted) {
	at := op.place + "/operationId"
	switch {
	case op.id == "":
		l.errorf("OperationIdRequired", op.place, "The 'operationId' property is required.", "Write one in PascalCase, such as ListOrders.")
		return
	case !goodID(op.id) && len(op.id) > maxID:
		l.errorf("OperationIdTooLong", at, fmt.Sprintf("The operationId is longer than %d characters.", maxID), "Shorten it.")
	case !goodID(op.id):
		l.warn("OperationIdSanitized", at, fmt.Sprintf("The operationId becomes '%s': it has other characters than letters and digits.", cleanID(op.id)), "Write that, unless flows use the connector already.")
	}
	if other := l.byID[strings.ToLower(op.id)]; other != nil {
		l.errorf("OperationIdNotUnique", at, fmt.Sprintf("The operationId '%s' is used at %s, too.", op.id, other.place), "Rename one.")
		return
	}
	l.byID[strings.ToLower(op.id)] = op
}

func (l *linter) words(op *linted) {
	if op.value.text("x-ms-visibility") == "internal" {
		return
	}
	summary, description := strings.TrimSpace(op.value.text("summary")), strings.TrimSpace(op.value.text("description"))
	switch {
	case summary == "":
		l.warn("RequiredPropertyMissing", op.place+"/summary", "The 'summary' is what makers see as the action's name; it is missing.", "Write a few words.")
	case len([]rune(summary)) >= 120:
		l.warn("OperationSummaryTooLong", op.place+"/summary", "The 'summary' should have fewer than 120 characters.", "Shorten it.")
	case endAlphanumeric(summary) != summary:
		l.warn("ValueMustEndWithAlphanumeric", op.place+"/summary", "The 'summary' should end with a letter or digit.", "Remove what stands after it.")
	}
	if description == "" {
		l.warn("RequiredPropertyMissing", op.place+"/description", "The 'description' is missing.", "Write a sentence.")
	}
}

func (l *linter) consumes(op *linted, body, form bool) {
	media := op.value.list("consumes")
	if media == nil {
		media = l.doc.root.list("consumes")
	}
	if !body && !form {
		return
	}
	var known []string
	for _, m := range texts(media) {
		if slices.Contains(supported(), mediaType(m)) {
			known = append(known, mediaType(m))
		}
	}
	if len(known) == 0 {
		l.warn("ConsumesMissing", op.place, fmt.Sprintf("No supported MIME type is in 'consumes' of '%s'.", op.id), `Write ["application/json"].`)
		return
	}
	isForm := slices.Contains(known, typeForm) || slices.Contains(known, typeMultipart)
	if form && !isForm || body && isForm && len(known) == 1 {
		l.warn("MimeTypeNotCompatibleWithRequestContentSchemaType", op.place, "The MIME types do not fit the kind of the request's content.", "Write application/json for a body, multipart/form-data or application/x-www-form-urlencoded for form data.")
	}
}

func (l *linter) responses(op *linted) {
	responses := op.value.object("responses")
	if responses.len() == 0 {
		l.errorf("OperationMustHaveResponse", op.place, "The operation must have at least one response.", `Write "responses": {"200": {"description": "OK"}}.`)
		return
	}
	success, withSchema := false, 0
	for _, r := range responses.all() {
		place := pointer(op.place, "responses", r.key)
		if strings.HasPrefix(r.key, "x-") {
			continue
		}
		if r.key != "default" && !codeForm.MatchString(r.key) {
			l.errorf("ResponseMustBeDefaultOrHttpStatusCode", place, "A response must be a status code or 'default'.", "Correct it.")
		}
		value, at, ok := l.doc.resolve(r.value, place)
		if !ok {
			l.errorf("ResponseReferenceNotFound", place, "The response reference could not be found.", "Define it in 'responses', or write the response here.")
			continue
		}
		success = success || strings.HasPrefix(r.key, "2") || r.key == "default"
		if _, isText := value.get("description").(string); !isText {
			l.errorf("RequiredPropertyMissing", at+"/description", "The response's 'description' is required.", "Write it.")
		}
		if s, ok := value.get("schema").(*object); ok {
			withSchema++
			if r.key == "default" {
				l.warn("DefaultResponseHasSchema", at, "The 'default' response should not have a schema.", "Describe the expected answer at its status.")
			}
			l.body(s, at+"/schema", op, false)
		}
		l.known(inResponse, value, at)
	}
	if !success {
		l.warn("OperationShouldHaveSuccessfulResponse", op.place, "The operation should have at least one successful response.", "Describe what comes with 200.")
	}
	if withSchema > 1 {
		l.warn("OperationHasManyResponsesWithSchema", op.place, "More than one response has a schema; the designer shows one.", "Keep that of the success.")
	}
}

// families checks revisions of operations.
func (l *linter) families() {
	type revision struct{ family, number string }
	seen := map[revision]*linted{}
	for _, op := range l.ops {
		a := op.value.object("x-ms-api-annotation")
		if a.has("replacement") && !op.value.flag("deprecated") {
			l.errorf("ApiAnnotationExtensionReplacementInfoForNonDeprecatedOperations", op.place, "A replacement is for deprecated operations only.", "Mark it deprecated, or remove the replacement.")
		}
		if a.text("family") == "" {
			continue
		}
		n, ok := a.number("revision")
		if !ok {
			continue
		}
		key := revision{a.text("family"), n.String()}
		if other := seen[key]; other != nil {
			l.errorf("OperationFamilyHasDuplicateRevisions", op.place, fmt.Sprintf("The family '%s' has this revision at '%s', too.", key.family, other.id), "Count on.")
		}
		seen[key] = op
	}
}
