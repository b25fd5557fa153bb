package definition

import "fmt"

// LostByURL names what a connector loses that is imported from a URL: such an import takes the definition alone, without
// apiProperties.json.
func (t Target) LostByURL() (lost []string) {
	ways := t.ways()
	if n := len(ways); n > 1 {
		lost = append(lost, fmt.Sprintf("the choice between the connector's %d ways to sign on (connectionParameterSets)", n))
	}
	for _, a := range ways {
		if a.Kind == AuthOAuth2 {
			lost = append(lost, "the settings of OAuth2 (identity provider, client ID, redirect address)")
			break
		}
	}
	if t.HostParameter {
		lost = append(lost, "the relay's address as a parameter of the connection (policy dynamichosturl)")
	}
	return lost
}
