package bearer

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"sallyport/internal/issuer"
)

const (
	// DefaultAuthority is Microsoft Entra ID's in the public cloud.
	DefaultAuthority = "https://login.microsoftonline.com"
	// DefaultLeeway is by how much the clocks of issuer and relay may differ, MaxLeeway the most that can be asked for.
	DefaultLeeway = time.Minute
	MaxLeeway     = 5 * time.Minute

	maxList = 64  // entries of one list
	maxText = 255 // bytes of one entry
)

// Values of Rule.Callers.
const (
	AppsOnly  = "app"  // programs by themselves
	UsersOnly = "user" // programs on behalf of a person
)

// A Rule says whose tokens admit a caller, and which. The zero value stands for a connector that takes none.
type Rule struct {
	// Issuer is exactly what the tokens' claim iss has. Empty if Tenant is set.
	Issuer string `json:"issuer,omitempty"`
	// Tenant is the GUID of a Microsoft Entra ID tenant, whose tokens count in both versions; Authority is its cloud's
	// sign-on address, by default DefaultAuthority.
	Tenant    string `json:"tenant,omitempty"`
	Authority string `json:"authority,omitempty"`
	// Audience are the API's names at the issuer: a token is for one of them.
	Audience []string `json:"audience,omitempty"`
	// Clients are the applications that may show tokens; empty: any that the issuer gives one.
	Clients []string `json:"clients,omitempty"`
	// Scopes are demanded all, of Roles one. If both are given, a person's token needs the scopes and an application's own
	// token a role, as Entra gives them.
	Scopes []string `json:"scopes,omitempty"`
	Roles  []string `json:"roles,omitempty"`
	// Claims are "name=value", demanded all; of several for one name, one. A name with dots is looked for inside, too.
	Claims []string `json:"claims,omitempty"`
	// Callers is AppsOnly, UsersOnly, or empty for both.
	Callers string `json:"callers,omitempty"`
	// Guests admits people whose account is another tenant's.
	Guests bool `json:"guests,omitempty"`
	// Leeway is by how much clocks may differ; 0: DefaultLeeway.
	Leeway time.Duration `json:"leeway,omitempty"`
	// Algorithms may sign; empty: all with public keys, of Entra RS256.
	Algorithms []string `json:"algorithms,omitempty"`
}

// Set reports whether there is a rule at all.
func (r Rule) Set() bool { return r.Issuer != "" || r.Tenant != "" }

// Entra reports whether the rule is the preset for Microsoft Entra ID.
func (r Rule) Entra() bool { return r.Tenant != "" }

// IssuerURL is where the issuer's configuration is.
func (r Rule) IssuerURL() string {
	if r.Entra() {
		return r.authority() + "/" + r.Tenant + "/v2.0" // its keys sign the tokens of both versions
	}
	return r.Issuer
}

func (r Rule) authority() string {
	return strings.TrimSuffix(cmp.Or(r.Authority, DefaultAuthority), "/")
}

// SignOn is Entra's sign-on address for people and programs.
func (r Rule) SignOn() string { return r.authority() }

func (r Rule) leeway() time.Duration { return cmp.Or(r.Leeway, DefaultLeeway) }

func (r Rule) algorithms() []string {
	if len(r.Algorithms) > 0 {
		return r.Algorithms
	}
	if r.Entra() {
		return []string{"RS256"}
	}
	return issuer.PublicKeyAlgorithms()
}

var guid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func isGUID(s string) bool { return guid.MatchString(s) }

// Normal brings a rule to the form in which it is applied and compared, or says all that is wrong with it, in the words of
// the command line.
func (r Rule) Normal() (Rule, []string) {
	var bad []string
	add := func(format string, v ...any) { bad = append(bad, fmt.Sprintf(format, v...)) }
	switch {
	case r.Issuer != "" && r.Tenant != "":
		add("issuer: it and entra-tenant exclude each other")
	case r.Entra():
		r.normalEntra(add)
	case r.Issuer == "":
		add("issuer: name who issues the tokens: --issuer URL, or --entra-tenant TENANT for Microsoft Entra ID")
	default:
		r.checkIssuer(add)
	}
	if len(r.Audience) == 0 {
		add("audience: name the API as the issuer knows it (--audience): without it, tokens for any other API would be taken")
	}
	for what, list := range map[string]*[]string{
		"audience": &r.Audience, "allow-client": &r.Clients, "scope": &r.Scopes, "role": &r.Roles, "claim": &r.Claims, "algorithms": &r.Algorithms,
	} {
		*list = normalList(what, *list, add)
	}
	for _, s := range r.Scopes {
		if strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }) {
			add("scope: %q is not one scope (RFC 6749 section 3.3)", s)
		}
	}
	for _, c := range r.Claims {
		if name, value, ok := strings.Cut(c, "="); !ok || name == "" || value == "" {
			add("claim: %q is not of the form name=value, such as department=sales", c)
		}
	}
	for _, a := range r.Algorithms {
		if !slices.Contains(issuer.PublicKeyAlgorithms(), a) {
			add("algorithms: %q is not one of %s: only those with public keys count", a, strings.Join(issuer.PublicKeyAlgorithms(), ", "))
		}
	}
	if !slices.Contains([]string{"", AppsOnly, UsersOnly}, r.Callers) {
		add("callers: %q is not one of %s, %s", r.Callers, AppsOnly, UsersOnly)
	}
	if r.Leeway < 0 || r.Leeway > MaxLeeway {
		add("leeway: %s is out of bounds (0 to %s)", r.Leeway, MaxLeeway)
	}
	return r, bad
}

// normalEntra checks what the preset is given. GUIDs are compared in lower case, as tokens have them.
func (r *Rule) normalEntra(add func(string, ...any)) {
	r.Tenant = strings.ToLower(r.Tenant)
	if !isGUID(r.Tenant) {
		add("entra-tenant: %.80q is no tenant's GUID, such as 72f988bf-86f1-41af-91ab-2d7cd011db47: one tenant is named, no domain and no 'common'", r.Tenant)
	}
	r.Authority = strings.TrimSuffix(r.Authority, "/")
	if u, err := url.Parse(r.authority()); err != nil || u.Host == "" || u.Path != "" || u.User != nil || u.RawQuery != "" ||
		u.Scheme != "https" && !issuer.Loopback(u) {
		add("authority: %.80q is no address such as %s", r.Authority, DefaultAuthority)
	}
	if r.Authority == DefaultAuthority {
		r.Authority = ""
	}
	r.Audience = slices.Clone(r.Audience)
	for i, a := range r.Audience {
		if lower := strings.ToLower(a); isGUID(lower) {
			r.Audience[i] = lower
		} else if !strings.Contains(a, "://") {
			add("audience: %.120q is neither an application ID URI (api://...) nor a client GUID", a)
		}
	}
	r.Clients = slices.Clone(r.Clients)
	for i, c := range r.Clients {
		if r.Clients[i] = strings.ToLower(c); !isGUID(r.Clients[i]) {
			add("allow-client: %.80q is no application's client GUID", c)
		}
	}
}

// checkIssuer takes the addresses that name one issuer and can be asked for its keys safely.
func (r *Rule) checkIssuer(add func(string, ...any)) {
	u, err := url.Parse(r.Issuer)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(r.Issuer, "?# ") ||
		u.Scheme != "https" && !issuer.Loopback(u) || len(r.Issuer) > maxText {
		add("issuer: %.120q is no address such as https://login.example.com/realms/plant", r.Issuer)
		return
	}
	if strings.HasPrefix(u.Hostname(), "login.microsoftonline.") {
		for _, several := range []string{"common", "organizations", "consumers"} {
			if strings.Split(strings.Trim(u.Path, "/"), "/")[0] == several {
				add("issuer: %s stands for many tenants; name one: --entra-tenant TENANT", r.Issuer)
			}
		}
	}
	if r.Authority != "" {
		add("authority: it belongs to entra-tenant")
	}
	if r.Guests {
		add("guests: only Entra's tokens tell guests from members")
	}
}

func normalList(what string, list []string, add func(string, ...any)) []string {
	if len(list) > maxList {
		add("%s: %d of them; a connector can have %d", what, len(list), maxList)
		return nil
	}
	var out []string
	for _, s := range list {
		switch {
		case s == "" || len(s) > maxText || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }):
			add("%s: %.80q has to have 1 to %d bytes, without control characters", what, s, maxText)
		case slices.Contains(out, s):
			add("%s: %s is given twice", what, s)
		default:
			out = append(out, s)
		}
	}
	return out
}

// audiences are all names that count. An application's default ID URI is api:// and its client GUID: with one of the two
// the tokens of both versions are known.
func (r Rule) audiences() []string {
	out := slices.Clone(r.Audience)
	if r.Entra() {
		for _, a := range r.Audience {
			if isGUID(a) {
				out = append(out, "api://"+a)
			} else if id, ok := strings.CutPrefix(a, "api://"); ok && isGUID(id) {
				out = append(out, id)
			}
		}
	}
	return out
}

// Note says what a rule will probably be missed for; "" if nothing.
func (r Rule) Note() string {
	if !r.Entra() || slices.ContainsFunc(r.audiences(), isGUID) {
		return ""
	}
	return "Entra's tokens of version 2 are for the client GUID of the API's registration: add it with another --audience, or they are refused."
}

// Compare gives each setting by the name that it has on the command line, as it was and as it is.
func (r Rule) Compare(before Rule, add func(setting, before, after string)) {
	list := func(l []string) string { return cmp.Or(strings.Join(l, ", "), "none") }
	anyOf := func(l []string) string { return cmp.Or(strings.Join(l, ", "), "any") }
	add("issuer", cmp.Or(before.Issuer, "none"), cmp.Or(r.Issuer, "none"))
	add("entra-tenant", cmp.Or(before.Tenant, "none"), cmp.Or(r.Tenant, "none"))
	add("authority", before.authority(), r.authority())
	add("audience", list(before.Audience), list(r.Audience))
	add("allow-client", anyOf(before.Clients), anyOf(r.Clients))
	add("scope", list(before.Scopes), list(r.Scopes))
	add("role", list(before.Roles), list(r.Roles))
	add("claim", list(before.Claims), list(r.Claims))
	add("callers", cmp.Or(before.Callers, "any"), cmp.Or(r.Callers, "any"))
	add("guests", fmt.Sprint(before.Guests), fmt.Sprint(r.Guests))
	add("leeway", before.leeway().String(), r.leeway().String())
	add("algorithms", list(before.algorithms()), list(r.algorithms()))
}
