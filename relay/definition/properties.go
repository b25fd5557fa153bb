package definition

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"
)

// properties makes apiProperties.json: what a connection asks for, and the policies.
func properties(t Target) *object {
	p := &object{}
	ways := t.ways()
	switch len(ways) {
	case 0:
		p.set("connectionParameters", t.withHost(&object{}))
	case 1:
		p.set("connectionParameters", t.withHost(connectionParameters(ways[0])))
	default:
		p.set("connectionParameters", t.withHost(&object{}))
		p.set("connectionParameterSets", t.sets(ways))
	}
	p.set("iconBrandColor", orText(t.Color, defaultColor))
	p.set("capabilities", []any{})
	policies := []any{}
	if t.HostParameter {
		policies = append(policies, obj("templateId", "dynamichosturl", "title", "The relay's address", "parameters", obj(
			"x-ms-apimTemplateParameter.urlTemplate", t.urlTemplate())))
	}
	p.set("policyTemplateInstances", append(policies, t.keyPolicies(ways)...))
	return obj("properties", p)
}

// keyPolicies send the key that is demanded along with another credential: a connection has one type of credential of its own.
// A relay takes keys in the header even where they may stand in the query.
func (t Target) keyPolicies(ways []Auth) (policies []any) {
	for _, a := range ways {
		if a.Key == nil {
			continue
		}
		policies = append(policies, obj("templateId", "setheader", "title", "The relay's key", "parameters", obj(
			"x-ms-apimTemplateParameter.name", a.Key.keyHeader(), "x-ms-apimTemplateParameter.value", "@connectionParameters('"+keyParameter+"')",
			"x-ms-apimTemplateParameter.existsAction", "override", "x-ms-apimTemplate-policySection", "Request")))
	}
	return policies
}

// keyParameter is what a key is called in a connection.
const keyParameter = "api_key"

// hostParameter is what the relay's address is called in a connection.
const hostParameter = "relayHost"

// urlTemplate has the base path: the policy replaces the whole address before the operation's path.
func (t Target) urlTemplate() string {
	scheme, _, basePath, _ := t.address()
	return scheme + "://@connectionParameters('" + hostParameter + "')" + strings.TrimSuffix(basePath, "/")
}

func (t Target) withHost(parameters *object) *object {
	if t.HostParameter {
		_, host, _, _ := t.address()
		parameters.set(hostParameter, obj("type", "string", "defaultValue", host, "uiDefinition", obj(
			"displayName", "Relay", "description", "The relay's host name, without https://, such as "+host,
			"tooltip", "The relay's host name", "constraints", obj("required", "true", "clearText", true))))
	}
	return parameters
}

func connectionParameters(a Auth) *object {
	if a.Key != nil {
		parts := a.parts()
		all := connectionParameters(parts[0])
		for _, m := range connectionParameters(parts[1]).all() {
			all.set(m.key, m.value)
		}
		return all
	}
	switch a.Kind {
	case AuthKey:
		return obj(keyParameter, secret("API Key", "The API key of this connector, as the relay's admin gave it (sp_...)", false))
	case AuthOAuth2:
		return obj("token", obj("type", "oauthSetting", "oAuthSettings", a.OAuth2.settings()))
	}
	who := "The user name that the relay's admin gave"
	if a.Windows {
		who = `Your Windows account, such as CORP\jane or jane@corp.example`
	}
	return obj("username", secret("User name", who, true), "password", secret("Password", "The password of this account", false))
}

func secret(name, description string, clear bool) *object {
	return obj("type", "securestring", "uiDefinition", obj("displayName", name, "description", description, "tooltip", description,
		"constraints", obj("clearText", clear, "required", "true", "tabIndex", num(2))))
}

// RedirectURL is where Microsoft's consent server takes the authorization code.
const RedirectURL = "https://global.consent.azure-apim.net/redirect"

func (o *OAuth2) settings() *object {
	s := obj("identityProvider", "oauth2generic", "clientId", orText(o.ClientID, "CLIENT-ID"), "scopes", anys(o.scopes()),
		"redirectMode", "Global", "redirectUrl", RedirectURL, "properties", obj("IsFirstParty", "False"))
	value := func(v string) *object { return obj("value", v) }
	if o.Entra() {
		s.set("identityProvider", "aad")
		s.set("properties", obj("IsFirstParty", "False", "AzureActiveDirectoryResourceId", o.Resource))
		s.set("customParameters", obj("loginUri", value(o.login()), "tenantId", value(o.Tenant), "resourceUri", value(o.Resource)))
		return s
	}
	s.set("customParameters", obj(
		"authorizationUrlTemplate", value(o.AuthorizationURL),
		"authorizationUrlQueryStringTemplate", value("?client_id={ClientId}&response_type=code&redirect_uri={RedirectUrl}&scope={Scopes}&state={State}"),
		"tokenUrlTemplate", value(o.TokenURL),
		"tokenUrlQueryStringTemplate", value(""),
		"tokenBodyTemplate", value("client_id={ClientId}&client_secret={ClientSecret}&code={Code}&grant_type=authorization_code&redirect_uri={RedirectUrl}"),
		"refreshUrlTemplate", value(orText(o.RefreshURL, o.TokenURL)),
		"refreshUrlQueryStringTemplate", value(""),
		"refreshBodyTemplate", value("client_id={ClientId}&client_secret={ClientSecret}&refresh_token={RefreshToken}&grant_type=refresh_token"),
		"scopeListDelimiter", value(" "),
	))
	return s
}

// sets lets the maker choose among several ways when the connection is made.
func (t Target) sets(ways []Auth) *object {
	var values []any
	for i, a := range ways {
		name, shown := fmt.Sprintf("%s%d", a.Kind, i+1), map[string]string{AuthKey: "API key", AuthBasic: "User name and password", AuthOAuth2: "Sign in (OAuth2)"}[a.Kind]
		if a.Windows {
			shown = "Windows account"
		}
		if a.Key != nil {
			shown += ", and an API key"
		}
		values = append(values, obj("name", name, "uiDefinition", obj("displayName", shown, "description", shown),
			"parameters", connectionParameters(a), "metadata", obj("allowSharing", a.Kind != AuthOAuth2)))
	}
	return obj("uiDefinition", obj("displayName", "Authentication", "description", "How this connection proves who it is"), "values", values)
}

// settings makes settings.json, which paconn reads. The connector's ID and the environment are not known before it is made.
func settings() *object {
	return obj("apiProperties", "apiProperties.json", "apiDefinition", "apiDefinition.swagger.json", "icon", "icon.png",
		"powerAppsUrl", "https://api.powerapps.com", "powerAppsApiVersion", "2016-11-01")
}

// iconSize is the largest that Power Platform takes.
const iconSize = 230

// icon draws a door in a wall, on the brand's colour.
func icon(hex string) ([]byte, error) {
	var r, g, b uint8
	if n, err := fmt.Sscanf(strings.ToLower(hex), "#%02x%02x%02x", &r, &g, &b); n != 3 || err != nil || !goodColor(hex) {
		return nil, fmt.Errorf("the icon's color %q is not of the form #1f5f8b", hex)
	}
	back, front := color.RGBA{r, g, b, 255}, color.RGBA{255, 255, 255, 255}
	img := image.NewPaletted(image.Rect(0, 0, iconSize, iconSize), color.Palette{back, front})
	for y := range iconSize {
		for x := range iconSize {
			dx, dy := x-iconSize/2, y-105
			outer := y >= 105 && y < 190 && dx > -55 && dx < 55 || y < 105 && dx*dx+dy*dy < 55*55
			inner := y >= 105 && y < 190 && dx > -35 && dx < 35 || y < 105 && dx*dx+dy*dy < 35*35
			knob := (dx-20)*(dx-20)+(y-140)*(y-140) < 36
			if outer && !inner || knob || y >= 190 && y < 200 && dx > -75 && dx < 75 {
				img.SetColorIndex(x, y, 1)
			}
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, fmt.Errorf("draw the icon: %w", err)
	}
	return out.Bytes(), nil
}
