package definition

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// The severities of findings.
const (
	SeverityError   = "error"   // Power Platform refuses the definition, or the operation cannot work
	SeverityWarning = "warning" // it works, but makers or reviewers will stumble
)

// A Finding is something that Microsoft's validator would say.
type Finding struct {
	Severity string `json:"severity"`
	// Rule is Microsoft's name for it (learn.microsoft.com, "Fix Swagger Validator errors"); Syntax and FileTooLarge are ours.
	Rule    string `json:"rule"`
	Place   string `json:"place"` // a JSON pointer, or line and column
	Message string `json:"message"`
	Mend    string `json:"mend"`
}

// maxFindings bounds what one file can give rise to.
const maxFindings = 2000

// Lint checks an apiDefinition.swagger.json by the rules of Microsoft's validator, errors first. It takes any bytes.
func Lint(data []byte) []Finding {
	l := &linter{}
	root, err := readTree(data)
	if err != nil {
		l.errorf("Syntax", "", "The file cannot be read: "+err.Error()+".", "Mend the syntax at this place.")
		return l.findings
	}
	if len(data) >= MaxDefinitionSize {
		l.errorf("FileTooLarge", "", fmt.Sprintf("The file has %d bytes; Power Platform takes less than 1 MB.", len(data)),
			"Offer fewer operations, or shorten descriptions; 'connector export' does the latter.")
	}
	if root.get("swagger") != "2.0" {
		l.errorf("SpecificationVersionIncorrect", "/swagger", "The file is not OpenAPI 2.0, the only version that Power Platform takes.",
			`Write "swagger": "2.0"; a definition of another version becomes 2.0 with 'connector export'.`)
		return l.findings
	}
	l.doc = &Document{Form: FormSwagger, root: root}
	l.root()
	l.paths()
	l.definitions()
	l.security()
	slices.SortStableFunc(l.findings, func(a, b Finding) int { return cmp.Compare(a.Severity, b.Severity) })
	return l.findings
}

// linter walks one definition.
type linter struct {
	doc      *Document
	findings []Finding
	byID     map[string]*linted
	ops      []*linted
	sizes    *leveler
	total    int // schemas in all
}

// linted is an operation with its parameters resolved.
type linted struct {
	method, path, id, place string
	value                   *object
	item                    *object
	parameters              []*object
	places                  []string
}

func (l *linter) add(severity, rule, place, message, mend string) {
	if len(l.findings) < maxFindings {
		l.findings = append(l.findings, Finding{severity, rule, orText(place, "/"), message, mend})
	}
}

func (l *linter) errorf(rule, place, message, mend string) {
	l.add(SeverityError, rule, place, message, mend)
}

func (l *linter) warn(rule, place, message, mend string) {
	l.add(SeverityWarning, rule, place, message, mend)
}

var (
	hostForm = regexp.MustCompile(`^[^{}/ :\\]+(:\d+)?$`)
	codeForm = regexp.MustCompile(`^[1-5][0-9][0-9]$`)
)

func (l *linter) root() {
	root := l.doc.root
	info := root.object("info")
	for _, key := range []string{"title", "version"} {
		if info.text(key) == "" {
			l.errorf("RequiredPropertyMissing", pointer("/info", key), fmt.Sprintf("The '%s' property is required.", key), "Write it.")
		}
	}
	if root.has("host") && !hostForm.MatchString(root.text("host")) {
		l.errorf("HostNameNotValid", "/host", "The 'host' property must be a host without a scheme or path.", "Write a name such as relay.example.com.")
	}
	if root.has("basePath") && !strings.HasPrefix(root.text("basePath"), "/") {
		l.errorf("BasePathNotValid", "/basePath", "The 'basePath' property must start with a '/'.", "Put a slash before it.")
	}
	l.schemes(root)
	l.media(root, "", "consumes")
	l.media(root, "", "produces")
	if m := info.object("contact").text("email"); m != "" && !goodMail(m) {
		l.errorf("ContactEmailNotValid", "/info/contact/email", "The contact's 'email' is no address.", "Correct or remove it.")
	}
	for _, place := range []string{"/info/contact", "/info/license", "/externalDocs"} {
		v, _, _ := l.doc.lookup("#" + place)
		if o, ok := v.(*object); ok && o.has("url") && externalDocs(o) == nil {
			l.errorf("UrlNotValid", place+"/url", "The 'url' property must be an absolute URL.", "Write https:// and the rest, or remove it.")
		}
	}
	seen := map[string]bool{}
	for i, t := range root.list("tags") {
		o, _ := t.(*object)
		if name := o.text("name"); seen[name] {
			l.errorf("TagRedefined", pointer("/tags", num(i).String()), fmt.Sprintf("The tag %q is defined several times.", name), "Remove one.")
		} else {
			seen[name] = true
		}
	}
	l.known(inRoot, root, "")
	l.known(inInfo, info, "/info")
}

func (l *linter) schemes(o *object) {
	list, isList := o.get("schemes").([]any)
	if isList && len(list) == 0 {
		l.errorf("SchemesArrayEmpty", "/schemes", "The 'schemes' array requires at least one value.", `Write ["https"].`)
	}
	for _, s := range list {
		switch s {
		case "http", "https":
		case "ws", "wss":
			l.errorf("SchemeNotSupported", "/schemes", "WebSocket schemes are not supported.", `Write ["https"].`)
		default:
			l.errorf("SchemeNotValid", "/schemes", fmt.Sprintf("The scheme %v is not http or https.", s), `Write ["https"].`)
		}
	}
}

// media checks a list of content types.
func (l *linter) media(o *object, place, key string) {
	seen := map[string]bool{}
	for i, t := range texts(o.list(key)) {
		at := pointer(place, key, num(i).String())
		if m := mediaType(t); !slices.Contains(supported(), m) {
			l.warn("MimeTypeNotSupported", at, fmt.Sprintf("The MIME type '%s' is not supported.", shorten(t, 80)),
				"Supported are "+strings.Join(supported(), ", ")+"; remove this one.")
		}
		if seen[t] {
			l.errorf("ArrayDuplicateValue", at, "The array contains duplicate values.", "Remove one.")
		}
		seen[t] = true
	}
}

// known checks Microsoft's extensions at a position, and that other members are none that OpenAPI does not have.
func (l *linter) known(where position, o *object, place string) {
	for _, m := range o.all() {
		if !strings.HasPrefix(m.key, "x-ms-") {
			continue
		}
		at := pointer(place, m.key)
		if !slices.Contains(extensionsAt(where), m.key) {
			l.warn("AdditionalPropertyNotAllowed", at, fmt.Sprintf("The property '%s' is not known at this place.", shorten(m.key, 60)), "Remove it, or move it to where it belongs.")
			continue
		}
		if _, ok := microsoft(where, m.key, m.value); !ok {
			l.errorf("JsonTypeIncorrect", at, fmt.Sprintf("The value of '%s' is not of the form that Power Platform reads.", m.key), "See Microsoft's documentation of the extension.")
		}
	}
}

func (l *linter) security() {
	definitions := l.doc.root.object("securityDefinitions")
	needs := map[string][]string{"apiKey": {"name", "in"}, "basic": nil, "oauth2": {"flow"}}
	for _, d := range definitions.all() {
		o, _ := d.value.(*object)
		place := pointer("/securityDefinitions", d.key)
		required, ok := needs[o.text("type")]
		if !ok {
			l.errorf("JsonValueNotInEnum", place+"/type", "The type must be one of apiKey, basic, oauth2.", "Write one of them.")
		}
		for _, key := range required {
			if o.text(key) == "" {
				l.errorf("SecuritySchemePropertyRequired", pointer(place, key), fmt.Sprintf("The property '%s' is required for '%s'.", key, o.text("type")), "Write it.")
			}
		}
		for _, key := range []string{"authorizationUrl", "tokenUrl"} {
			if u, err := url.Parse(o.text(key)); o.has(key) && (err != nil || u.Host == "") {
				l.errorf("UrlNotValid", pointer(place, key), "The URL must be absolute.", "Write https:// and the rest.")
			}
		}
	}
	for i, v := range l.doc.root.list("security") {
		o, _ := v.(*object)
		for _, r := range o.all() {
			place := pointer("/security", num(i).String(), r.key)
			scheme := definitions.object(r.key)
			scopes, isList := r.value.([]any)
			switch {
			case scheme == nil:
				l.errorf("SecurityRequirementMustBeDefined", place, fmt.Sprintf("The security requirement '%s' is not defined.", r.key), "Define it in 'securityDefinitions', or remove it.")
			case !isList:
				l.errorf("SecurityRequirementMustHaveValue", place, "The requirement must have a list of scopes.", "Write [].")
			case scheme.text("type") != "oauth2" && len(scopes) > 0:
				l.errorf("SecurityRequirementMustHaveEmptyValue", place, "This requirement cannot have scopes.", "Write [].")
			case scheme.text("type") == "oauth2":
				for _, s := range texts(scopes) {
					if !scheme.object("scopes").has(s) {
						l.errorf("OAuthSecurityRequirementValueMustBeScopeName", place, fmt.Sprintf("The scope '%s' is not defined.", s), "Define it in the security definition.")
					}
				}
			}
		}
	}
}

// LintProperties checks an apiProperties.json.
func LintProperties(data []byte) []Finding {
	l := &linter{}
	root, err := readTree(data)
	if err != nil {
		l.errorf("Syntax", "", "The file cannot be read: "+err.Error()+".", "Mend the syntax at this place.")
		return l.findings
	}
	p := root.object("properties")
	if p == nil {
		l.errorf("RequiredPropertyMissing", "/properties", "The 'properties' property is required.", "Write it; 'connector export' makes a whole file.")
		return l.findings
	}
	if p.text("iconBrandColor") == "" {
		l.errorf("RequiredPropertyMissing", "/properties/iconBrandColor", "The 'iconBrandColor' property is required.", "Write a color such as #1f5f8b.")
	}
	for _, c := range p.object("connectionParameters").all() {
		o, _ := c.value.(*object)
		place := pointer("/properties/connectionParameters", c.key)
		switch o.text("type") {
		case "string", "securestring", "int", "bool", "oauthSetting":
		case "gatewaySetting":
			l.warn("GatewayCapability", place, "The connector goes through Microsoft's on-premises data gateway.", "'connector import' moves it to this relay.")
		default:
			l.errorf("JsonValueNotInEnum", place+"/type", "The type is not one that Power Platform knows.", "Write string, securestring, int, bool or oauthSetting.")
		}
	}
	for i, v := range p.list("policyTemplateInstances") {
		o, _ := v.(*object)
		if id := o.text("templateId"); !slices.Contains(policies(), strings.ToLower(id)) {
			l.errorf("JsonValueNotInEnum", pointer("/properties/policyTemplateInstances", num(i).String(), "templateId"),
				fmt.Sprintf("The policy template '%s' is not known.", shorten(id, 60)), "Use one of "+strings.Join(policies(), ", ")+".")
		}
	}
	return l.findings
}

func policies() []string {
	return []string{
		"dynamichosturl", "routerequesttoendpoint", "setheader", "setqueryparameter", "setproperty", "setvaluefromurl",
		"convertarraytoobject", "convertobjecttoarray", "stringtoarray", "stringreplace", "encodepropertyvalue", "pollingtrigger", "updatenextlink",
	}
}

// numberOf reads a number for comparison.
func numberOf(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}
