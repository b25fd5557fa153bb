package bearer

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/internal/issuer"
)

// An examination is one token before a judge.
type examination struct {
	j   *Judge
	ctx context.Context
	now time.Time

	t   *token
	who Caller
}

// A check is one demand. It says what the token has, or with a *Refused what is wrong.
type check struct {
	name  string
	judge func() (says string, err error)
}

// open takes a token apart and gives the demands that it is to meet, in order.
func (e *examination) open(raw string) []check {
	t, err := parse(raw)
	if err != nil {
		return []check{{"form", func() (string, error) { return "", refuse(Unproved, "%s", err) }}}
	}
	e.t = t
	checks := []check{{"form", e.form}, {"issuer", e.issuer}, {"signature", e.signature}}
	if e.j.rule.Entra() {
		checks = append(checks, check{"tenant", e.tenant})
	}
	checks = append(checks, check{"time", e.time}, check{"audience", e.audience}, check{"caller", e.caller})
	if e.j.rule.Entra() && !e.j.rule.Guests {
		checks = append(checks, check{"guest", e.guest})
	}
	checks = append(checks, check{"client", e.client}, check{"rights", e.rights})
	if len(e.j.rule.Claims) > 0 {
		checks = append(checks, check{"claims", e.claims})
	}
	return checks
}

func refuse(k Kind, format string, v ...any) error {
	return &Refused{Kind: k, Reason: fmt.Sprintf(format, v...)}
}

func (e *examination) form() (string, error) {
	if err := e.t.checkHeader(e.j.algorithms); err != nil {
		return "", refuse(Unproved, "%s", err)
	}
	return fmt.Sprintf("a signed token, %s, key %.80q", e.t.header["alg"], fmt.Sprint(e.t.header["kid"])), nil
}

// issuer looks at what the token claims, so that a stranger's is refused without a look at any key.
func (e *examination) issuer() (string, error) {
	iss := e.t.text("iss")
	switch {
	case iss == "":
		return "", refuse(Unproved, "it does not say who issued it (iss)")
	case e.j.rule.Entra() && iss != e.j.v1 && iss != e.j.v2:
		return "", refuse(Unproved, "it was issued by %.160q, not by the tenant that counts here", iss)
	case !e.j.rule.Entra() && iss != e.j.rule.Issuer:
		return "", refuse(Unproved, "it was issued by %.160q, which does not count here", iss)
	}
	return iss, nil
}

func (e *examination) signature() (string, error) {
	err := e.j.keys.Signed(e.ctx, e.t.raw, e.j.algorithms)
	if _, outage := errors.AsType[*issuer.Unavailable](err); outage {
		return "", err
	} else if err != nil {
		return "", &Refused{Kind: Unproved, Reason: "its signature does not hold, or its key is not the issuer's", Cause: err}
	}
	return "holds, by a key of the issuer's", nil
}

// tenant holds the two versions of Entra's tokens against what goes with their issuers.
func (e *examination) tenant() (string, error) {
	version := "2.0"
	if e.t.text("iss") == e.j.v1 {
		version = "1.0"
	}
	switch {
	case e.t.text("ver") != version:
		return "", refuse(Unfit, "its version %.20q does not go with its issuer", e.t.text("ver"))
	case e.t.text("tid") != e.j.rule.Tenant:
		return "", refuse(Unfit, "it is of the tenant %.80q", e.t.text("tid"))
	}
	return "version " + version + " of the tenant's tokens", nil
}

func (e *examination) time() (string, error) {
	exp, there, err := e.t.when("exp")
	leeway := e.j.rule.leeway()
	switch {
	case err != nil:
		return "", refuse(Unfit, "%s", err)
	case !there:
		return "", refuse(Unfit, "it does not say when it ends (exp)")
	case !e.now.Before(exp.Add(leeway)):
		return "", refuse(Unfit, "it expired at %s", exp.UTC().Format(time.RFC3339))
	}
	for _, name := range []string{"nbf", "iat"} {
		at, there, err := e.t.when(name)
		if err != nil {
			return "", refuse(Unfit, "%s", err)
		}
		if there && e.now.Before(at.Add(-leeway)) {
			return "", refuse(Unfit, "it is not valid before %s (%s)", at.UTC().Format(time.RFC3339), name)
		}
	}
	e.who.Expires = exp
	return "it ends at " + exp.UTC().Format(time.RFC3339), nil
}

func (e *examination) audience() (string, error) {
	aud, err := e.t.audience()
	if err != nil {
		return "", refuse(Unfit, "%s", err)
	}
	if e.j.rule.Entra() && len(aud) != 1 {
		return "", refuse(Unfit, "it is for %d audiences; Entra's tokens are for one", len(aud))
	}
	for _, a := range aud {
		if slices.Contains(e.j.audiences, a) {
			return fmt.Sprintf("%.160q", a), nil
		}
	}
	return "", refuse(Unfit, "it is for %.200q, not for this connector", strings.Join(aud, " "))
}

// caller finds out who stands behind the token: the object of a person or application in Entra, else the subject.
func (e *examination) caller() (string, error) {
	err := e.named()
	if err == nil {
		err = e.kind()
	}
	if err != nil {
		return "", err
	}
	e.says()
	what := "a person, by an application"
	if e.who.App {
		what = "an application by itself"
	}
	return e.who.Principal + ", " + what, nil
}

func (e *examination) named() error {
	t := e.t
	_, access := t.claims["at_hash"]
	_, code := t.claims["c_hash"]
	if access || code || t.text("typ") == "ID" { // OpenID Connect Core section 3.1.3.6; Keycloak
		return refuse(Unfit, "it is an ID token, which tells an application who has signed on; an API takes access tokens")
	}
	if e.j.rule.Entra() {
		e.who.Client = t.text("azp")
		if t.text("iss") == e.j.v1 {
			e.who.Client = t.text("appid")
		}
		if !isGUID(e.who.Client) {
			return refuse(Unfit, "it does not name the application that it was issued to (azp, appid)")
		}
		if !isGUID(t.text("oid")) {
			return refuse(Unfit, "it does not name who it is about (oid)")
		}
		e.who.Principal = "entra:" + t.text("tid") + "/" + t.text("oid")
		return nil
	}
	sub := t.text("sub")
	if sub == "" || len(sub) > maxText {
		return refuse(Unfit, "it does not name who it is about (sub, 1 to %d bytes)", maxText)
	}
	for _, name := range []string{"azp", "client_id", "appid", "cid"} {
		if c := t.text(name); c != "" {
			if len(c) > maxText {
				return refuse(Unfit, "the name of its application (%s) is too long", name)
			}
			e.who.Client = escape(c)
			break
		}
	}
	place := e.j.rule.Issuer
	if u, err := url.Parse(place); err == nil {
		place = u.Host + u.Path
	}
	e.who.Principal = "oauth2:" + escape(sub) + "@" + strings.TrimSuffix(place, "/")
	return nil
}

// escape makes a name one word of a log's line: spaces, control bytes and what is not ASCII are written as %XX.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// kind tells applications by themselves from persons, and admits whom the rule admits.
func (e *examination) kind() error {
	t := e.t
	_, scoped := t.claims["scp"]
	switch kind := t.text("idtyp"); {
	case kind == "app" && scoped:
		return refuse(Unfit, "it contradicts itself: an application's own token (idtyp) with a person's scopes (scp)")
	case kind != "":
		e.who.App = kind == "app"
	case e.j.rule.Entra():
		e.who.App = !scoped // https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
	default:
		// RFC 9068 section 2.2: without a person the subject is the client. Auth0 names it otherwise, and says so.
		sub, client := t.text("sub"), t.text("azp")
		if client == "" {
			client = t.text("client_id")
		}
		e.who.App = client != "" && (sub == client || sub == client+"@clients") || t.text("gty") == "client-credentials"
	}
	switch {
	case e.j.rule.Callers == AppsOnly && !e.who.App:
		return refuse(Insufficient, "a person stands behind it; this connector admits applications by themselves")
	case e.j.rule.Callers == UsersOnly && e.who.App:
		return refuse(Insufficient, "it is an application's own token; this connector admits persons")
	}
	return nil
}

// guest refuses people of other tenants as far as a token tells: by the identity provider that they came from (idp) or by
// the optional claim acct.
func (e *examination) guest() (string, error) {
	if e.isGuest() {
		return "", refuse(Insufficient, "it is a guest's, whose account is another tenant's")
	}
	return "a member of the tenant, as far as the token tells", nil
}

func (e *examination) isGuest() bool {
	idp, own := e.t.text("idp"), e.t.text("iss")
	if idp == e.j.v1 || idp == e.j.v2 {
		own = idp
	}
	return idp != "" && idp != own || plain(e.t.claims["acct"]) == "1"
}

// says notes what the token says of its caller besides. Names of people are a person's alone: an application has none.
func (e *examination) says() {
	t, s := e.t, &e.who.Says
	s.Tenant, s.Object = t.text("tid"), t.text("oid")
	if !e.j.rule.Entra() {
		s.Tenant, s.Object = t.text("iss"), t.text("sub")
	}
	if !e.who.App {
		s.UPN, s.SID = t.text("upn"), t.text("onprem_sid")
	}
	s.Guest = e.j.rule.Entra() && (e.isGuest() || strings.Contains(strings.ToUpper(s.UPN), "#EXT#"))
	s.Groups, s.Roles = t.list("groups"), t.list("roles")
	names, _ := t.claims["_claim_names"].(map[string]any)
	_, elsewhere := names["groups"]
	s.MoreGroups = elsewhere || plain(t.claims["hasgroups"]) == "true"
	if at, there, err := t.when("iat"); there && err == nil {
		s.Issued = at
	}
}

func (e *examination) client() (string, error) {
	if len(e.j.rule.Clients) > 0 && !slices.Contains(e.j.rule.Clients, e.who.Client) {
		return "", refuse(Insufficient, "the application %.120q is not one that may call this connector", e.who.Client)
	}
	return fmt.Sprintf("%.120q", e.who.Client), nil
}

func (e *examination) rights() (string, error) {
	r := e.j.rule
	scopes := slices.Concat(e.t.words("scp"), e.t.words("scope"))
	both := len(r.Scopes) > 0 && len(r.Roles) > 0
	if len(r.Scopes) > 0 && !(both && e.who.App) {
		for _, s := range r.Scopes {
			if slices.Contains(scopes, s) {
				continue
			}
			bad := &Refused{Kind: Insufficient, Reason: fmt.Sprintf("it has the scopes %.200q; the scope %s is missing", strings.Join(scopes, " "), s), Scopes: r.Scopes}
			if e.who.App {
				bad.Reason = "it is an application's own token, without scopes; this connector demands the scope " + s
			}
			return "", bad
		}
	}
	if len(r.Roles) > 0 && !(both && !e.who.App) && !slices.ContainsFunc(r.Roles, func(role string) bool { return e.t.has("roles", role) }) {
		return "", refuse(Insufficient, "it has none of the roles that may call this connector")
	}
	return fmt.Sprintf("scopes %.200q, roles %.200q", strings.Join(scopes, " "), strings.Join(e.t.words("roles"), " ")), nil
}

func (e *examination) claims() (string, error) {
	met := map[string]bool{}
	for _, c := range e.j.rule.Claims {
		name, value, _ := strings.Cut(c, "=")
		met[name] = met[name] || e.t.has(name, value)
	}
	for _, c := range e.j.rule.Claims {
		if name, _, _ := strings.Cut(c, "="); !met[name] {
			return "", refuse(Insufficient, "its claim %.80q is not one that this connector admits", name)
		}
	}
	return "as demanded", nil
}
