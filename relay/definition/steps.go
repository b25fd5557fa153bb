package definition

import (
	"fmt"
	"strings"
)

// Steps are what a person does with the files, in order, with the exact commands.
func (t Target) Steps(title string) []string {
	var s []string
	say := func(format string, v ...any) { s = append(s, fmt.Sprintf(format, v...)) }
	for _, a := range t.schemes() {
		switch {
		case a.Kind == AuthKey:
			say("Make a key for the connection:\n  sallyport-relay key add %s/%s --name power-platform", t.Gateway, t.Name)
		case a.Kind == AuthOAuth2:
			t.oauth2Steps(say, title, a.OAuth2)
		case a.Windows:
			say("Nothing is to be made for Windows accounts: each connection asks for one.")
		case a.Kind == AuthBasic:
			say("Have the relay's admin make a name and a password for the connection.")
		}
	}
	secret := ""
	if t.needsSecret() {
		secret = " --secret CLIENT-SECRET"
	}
	say("Create the connector with paconn (pip install paconn):\n  paconn login\n  paconn create --environment ENVIRONMENT-ID --api-def apiDefinition.swagger.json --api-prop apiProperties.json --icon icon.png%s\n"+
		"or with the Power Platform CLI, into a solution (the client secret is entered in the portal then):\n"+
		"  pac auth create --environment ENVIRONMENT-ID\n"+
		"  pac connector create --api-definition-file apiDefinition.swagger.json --api-properties-file apiProperties.json --icon-file icon.png --solution-unique-name SOLUTION", secret)
	say("Make a connection%s, and try an operation on the connector's test page.", map[bool]string{
		true: "; it asks for the relay's host name, which an environment variable of the solution can give", false: "",
	}[t.HostParameter])
	say("After a change of the definition, export again and update:\n  paconn update --environment ENVIRONMENT-ID --connector CONNECTOR-ID --api-def apiDefinition.swagger.json --api-prop apiProperties.json --icon icon.png%s\n"+
		"  pac connector update --connector-id CONNECTOR-ID --api-definition-file apiDefinition.swagger.json --api-properties-file apiProperties.json", secret)
	return s
}

func (t Target) needsSecret() bool {
	for _, a := range t.ways() {
		if a.Kind == AuthOAuth2 {
			return true
		}
	}
	return false
}

func (t Target) oauth2Steps(say func(string, ...any), title string, o *OAuth2) {
	if o.AppsOnly {
		say("Change who may call first: the connector admits applications by themselves alone (--app-only), and a connection of Power Platform signs on a person.")
	}
	client := orText(o.ClientID, "CLIENT-ID")
	if o.Entra() {
		entraSteps(say, title, client, o)
	} else {
		say("Register a client at the authorization server, for the authorization code flow, with this redirect address:\n  %s", RedirectURL)
	}
	if o.ClientID == "" {
		say("Write the client's ID into apiProperties.json in place of CLIENT-ID, or export again with --client-id.")
	}
	if o.Restricted {
		say("Have the relay's admin admit the client: add --allow-client %s to the connector's settings (sallyport-relay connector publish %s/%s --change, or its file).",
			client, t.Gateway, t.Name)
	}
}

// entraSteps make the client by the commands of the Azure CLI.
func entraSteps(say func(string, ...any), title, client string, o *OAuth2) {
	say("Register the connector as a client in Microsoft Entra ID, with the consent server's redirect address:\n"+
		"  az login --tenant %s --allow-no-subscriptions\n"+
		"  az ad app create --display-name %s --sign-in-audience AzureADMyOrg --web-redirect-uris %s --query appId --output tsv\n"+
		"If the connector's Security page shows another redirect address later, add it:\n"+
		"  az ad app update --id %s --web-redirect-uris %s OTHER-ADDRESS",
		o.Tenant, shellText(title+" (Power Platform)"), RedirectURL, client, RedirectURL)
	api := shellText(o.Resource)
	var grants strings.Builder
	for _, scope := range o.scopes() {
		name := scope[strings.LastIndexByte(scope, '/')+1:]
		if strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(scopeLetters, r) }) {
			fmt.Fprintf(&grants, "  az ad app permission add --id %s --api \"$(az ad sp show --id %s --query appId --output tsv)\" --api-permissions SCOPE-ID=Scope\n", client, api)
			continue // a shell might read something else in it
		}
		fmt.Fprintf(&grants, "  az ad app permission add --id %s --api \"$(az ad sp show --id %s --query appId --output tsv)\" \\\n"+
			"    --api-permissions \"$(az ad sp show --id %s --query \"oauth2PermissionScopes[?value=='%s'].id\" --output tsv)=Scope\"\n",
			client, api, api, name)
	}
	if len(o.Scopes) == 0 {
		fmt.Fprintf(&grants, "  az ad sp show --id %s --query \"oauth2PermissionScopes[].[value,id]\" --output table\n"+
			"  az ad app permission add --id %s --api \"$(az ad sp show --id %s --query appId --output tsv)\" --api-permissions SCOPE-ID=Scope\n", api, client, api)
	}
	say("Let it call the API, %s, and make its secret:\n"+
		"  az ad sp create --id %s\n%s"+
		"  az ad app permission admin-consent --id %s\n"+
		"  az ad app credential reset --id %s --display-name power-platform --query password --output tsv",
		o.Resource, client, grants.String(), client, client)
}

// scopeLetters are those of the names that a command can have as they are.
const scopeLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:"

// shellText quotes for a POSIX shell.
func shellText(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
