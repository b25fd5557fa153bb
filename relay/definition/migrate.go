package definition

import (
	"fmt"
	"slices"
	"strings"
)

// A Migration moves a custom connector from Microsoft's on-premises data gateway to a relay.
type Migration struct {
	Files *Files
	// API is the entry for agent.yaml, below "apis:".
	API string
	// Allow are the rules of its allow-list, as they stand in API, too.
	Allow []string
	// Notes say what changes, for the admin and for the connector's makers.
	Notes []string
}

// Migrate reads a connector's pair of files: what the definition's host was becomes the agent's upstream, and the
// connector gets the relay's address and authentication. Operation IDs stay, so that flows need no change.
func Migrate(definition, properties []byte, t Target) (*Migration, error) {
	d, err := Parse(definition)
	if err != nil {
		return nil, fmt.Errorf("apiDefinition.swagger.json: %w", err)
	}
	if d.Form != FormSwagger {
		return nil, fmt.Errorf("apiDefinition.swagger.json: %w", &Invalid{"/swagger", "a custom connector's definition is OpenAPI 2.0"})
	}
	pair, err := readTree(properties)
	if err != nil {
		return nil, fmt.Errorf("apiProperties.json: %w", err)
	}
	m := &migrator{doc: d, old: orObject(pair.object("properties")), target: t, out: &Migration{}}
	m.target.KeepIDs = true
	if m.target.Color == "" && goodColor(m.old.text("iconBrandColor")) {
		m.target.Color = m.old.text("iconBrandColor")
	}
	if m.out.Files, err = PowerPlatform(d, m.target); err != nil {
		return nil, err
	}
	m.carryOver()
	m.entry()
	m.notes()
	return m.out, nil
}

func goodColor(s string) bool {
	return len(s) == 7 && s[0] == '#' && strings.Trim(strings.ToLower(s[1:]), "0123456789abcdef") == ""
}

type migrator struct {
	doc    *Document
	old    *object
	target Target
	out    *Migration
}

func (m *migrator) note(format string, v ...any) {
	m.out.Notes = append(m.out.Notes, fmt.Sprintf(format, v...))
}

// upstream is where the definition says that the API is.
func (m *migrator) upstream() string {
	scheme := "https"
	if list := texts(m.doc.root.list("schemes")); len(list) > 0 && !slices.Contains(list, "https") {
		scheme = list[0]
	}
	host := orText(m.doc.root.text("host"), "HOST.corp.example")
	return scheme + "://" + host + strings.TrimRight(m.doc.root.text("basePath"), "/")
}

// credential tells how connections signed on to the API before.
func (m *migrator) credential() string {
	p := m.old.object("connectionParameters")
	for _, v := range p.object("authType").list("allowedValues") {
		o, _ := v.(*object)
		if s := strings.ToLower(o.text("value")); s == "windows" || s == "basic" {
			return s
		}
	}
	_, needs := m.doc.security()
	switch {
	case p.has("username") && p.has("password"):
		return "basic"
	case p.has("token"):
		return "oauth2"
	case p.has("api_key") || needs == "apiKey":
		return "key"
	case needs == "basic":
		return "basic"
	}
	return "none"
}

// security is the type of the first security definition.
func (d *Document) security() (*object, string) {
	for _, s := range d.root.object("securityDefinitions").all() {
		o, _ := s.value.(*object)
		return o, o.text("type")
	}
	return nil, ""
}

// carryOver keeps of the old properties what has nothing to do with gateway and credential.
func (m *migrator) carryOver() {
	tree, err := readTree(m.out.Files.Properties)
	if err != nil {
		return // our own bytes
	}
	p := tree.object("properties")
	for _, key := range []string{"publisher", "stackOwner", "scriptOperations"} {
		if m.old.has(key) {
			p.set(key, m.old.get(key))
		}
	}
	list := p.list("policyTemplateInstances")
	for _, v := range m.old.list("policyTemplateInstances") {
		o, _ := v.(*object)
		switch id := strings.ToLower(o.text("templateId")); {
		case id == "dynamichosturl":
			m.note("The policy %q (dynamichosturl) was left out: the API's address is in agent.yaml now. For an address that differs by environment use --host-parameter.", orText(o.text("title"), id))
		case hasText(o, "@connectionParameters("):
			m.note("The policy %q was left out: it uses a parameter of the old connection.", orText(o.text("title"), id))
		default:
			list = append(list, v)
		}
	}
	p.set("policyTemplateInstances", list)
	m.out.Files.Properties = encode(tree, "  ")
}

func hasText(v any, part string) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, part)
	case []any:
		return slices.ContainsFunc(v, func(one any) bool { return hasText(one, part) })
	case *object:
		return slices.ContainsFunc(v.all(), func(one member) bool { return hasText(one.value, part) })
	}
	return false
}

// entry writes what agent.yaml needs.
func (m *migrator) entry() {
	for _, op := range m.out.Files.Operations {
		if op.Path == m.target.Ping && m.target.Ping != "" {
			continue
		}
		if rule, ok := ruleFor(op.Method, op.Path); ok {
			m.out.Allow = append(m.out.Allow, rule)
		} else {
			m.note("No rule was written for %s %s: its path cannot be one. Write it by hand (docs/policy.md).", op.Method, op.Path)
		}
	}
	auth := map[string]string{
		"windows": "windows: {as: service}   # the account that the agent runs as; or {as: account, account: 'CORP\\\\svc', secret: NAME}",
		"basic":   fmt.Sprintf("basic: {user: USER, secret: %s-password}   # sallyport-agent secret set %s-password", m.target.Name, m.target.Name),
		"key":     fmt.Sprintf("header: {name: %s, secret: %s-key}   # sallyport-agent secret set %s-key", m.keyHeader(), m.target.Name, m.target.Name),
		"oauth2":  fmt.Sprintf("bearer: {secret: %s-token}   # sallyport-agent secret set %s-token", m.target.Name, m.target.Name),
		"none":    "none",
	}[m.credential()]
	var b strings.Builder
	fmt.Fprintf(&b, "  - name: %s\n    url: %s\n    auth:", m.target.Name, yamlText(m.upstream()))
	if auth == "none" {
		b.WriteString(" none\n")
	} else {
		fmt.Fprintf(&b, "\n      %s\n", strings.ReplaceAll(auth, `\\`, `\`))
	}
	b.WriteString("    allow:\n")
	for _, rule := range m.out.Allow {
		fmt.Fprintf(&b, "      - %s\n", yamlText(rule))
	}
	m.out.API = b.String()
}

func (m *migrator) keyHeader() string {
	if s, kind := m.doc.security(); kind == "apiKey" && s.text("in") == "header" {
		return s.text("name")
	}
	return "X-API-Key"
}

// yamlText quotes what YAML would read otherwise.
func yamlText(s string) string {
	if strings.ContainsAny(s, ":#'\"%@`!&*|>[]{},\\") && (strings.Contains(s, ": ") || strings.Contains(s, " #") || strings.ContainsAny(s[:1], "*&!|>'\"%@`[]{}")) {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return s
}

// ruleFor writes an operation as a rule of the allow-list.
func ruleFor(method, path string) (string, bool) {
	used := map[string]bool{}
	bad := false
	path = variable.ReplaceAllStringFunc(path, func(v string) string {
		name := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.' {
				return r
			}
			return '_'
		}, v[1:len(v)-1])
		bad = bad || used[name]
		used[name] = true
		return "{" + name + "}"
	})
	rest := variable.ReplaceAllString(path, "")
	if bad || strings.ContainsAny(rest, "*{}\\ ") || strings.Contains(path, "}{") || strings.Contains(path, "//") || strings.Contains(path, "..") {
		return "", false
	}
	return method + " " + path, true
}

func (m *migrator) notes() {
	switch m.credential() {
	case "windows":
		m.note("The Windows account was stored with each connection in Microsoft's cloud. Now the agent signs on, as the account that agent.yaml names. To let each user give an account of their own, use auth: {windows: {as: caller-password}} and publish the connector so.")
	case "none":
		m.note("The files name no credential for the API, so the agent has none; the relay's own authentication is new. " +
			"If connections asked for a Windows account (chosen in the portal with the gateway, it is not always in the files), write auth: {windows: {as: service}}.")
	default:
		m.note("The API's credential was stored with each connection. Now the agent has it, as a secret; connections carry the connector's own.")
	}
	if m.old.object("connectionParameters").has("gateway") || slices.Contains(texts(m.old.list("capabilities")), "gateway") {
		m.note("The on-premises data gateway is not used any more: its limits (2 MB written, 8 MB read, no API key, no OAuth2, no custom code) do not apply.")
	}
	if len(m.old.list("scriptOperations")) > 0 {
		m.note("The connector has custom code for %s; copy script.csx beside the new files. It ran only without the gateway before.", strings.Join(texts(m.old.list("scriptOperations")), ", "))
	}
	m.note("Makers make one new connection and choose it in their flows and apps; operation IDs and parameters are as before.")
	m.note("The allow-list has one rule for each operation of the definition. Take away what nobody needs.")
}
