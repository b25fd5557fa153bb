package definition

import (
	"fmt"
	"strings"
)

// Steps are what a person does with the files, in order, with the exact commands.
func (t Target) Steps(title string) []string {
	var s []string
	say := func(format string, v ...any) { s = append(s, fmt.Sprintf(format, v...)) }
	for _, a := range t.ways() {
		switch {
		case a.Kind == AuthKey:
			say("Make a key for the connection:\n  sallyport-relay key add %s/%s --name power-platform", t.Gateway, t.Name)
		case a.Kind == AuthOAuth2 && a.OAuth2.Entra():
			t.entraSteps(say, title, a.OAuth2)
		case a.Kind == AuthOAuth2:
			say("Register a client at the authorization server with this redirect address:\n  %s\nWrite its ID into apiProperties.json (clientId).", RedirectURL)
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

func (t Target) entraSteps(say func(string, ...any), title string, o *OAuth2) {
	name := shellText(title + " (Power Platform)")
	say("Register the connector as a client in Microsoft Entra ID, with the consent server's redirect address:\n"+
		"  az login --tenant %s\n"+
		"  az ad app create --display-name %s --sign-in-audience AzureADMyOrg --web-redirect-uris %s --query appId --output tsv",
		o.Tenant, name, RedirectURL)
	client := orText(o.ClientID, "CLIENT-ID")
	say("Let it call the relay's API, %s, and make its secret:\n"+
		"  az ad sp create --id %s\n"+
		"  az ad app permission add --id %s --api %s --api-permissions SCOPE-ID=Scope\n"+
		"  az ad app permission admin-consent --id %s\n"+
		"  az ad app credential reset --id %s --display-name power-platform --query password --output tsv",
		o.Resource, client, client, strings.TrimPrefix(o.Resource, "api://"), client, client)
	if o.ClientID == "" {
		say("Write the client's ID into apiProperties.json in place of CLIENT-ID, or export again with --client-id.")
	}
}

// shellText quotes for a POSIX shell.
func shellText(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
