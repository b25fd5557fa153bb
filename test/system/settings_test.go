//go:build linux

package system

// relayYAML is the relay's configuration: its public URL, its address, the box's directory.
const relayYAML = `public_url: %[1]s
listen: %[2]s
tls:
  cert: %[3]s/tls.pem
  key: %[3]s/tls.key
data: %[3]s/relay
socket: %[3]s/relay.sock
`

// agentYAML is the head of the agent's configuration: the relay's URL, the gateway, the box's directory.
const agentYAML = `relay: %[1]s
gateway: %[2]s
state: %[3]s/agent
ca: %[3]s/ca.pem
`

// How agent.yaml says as whom an API is called: without a credential, as the service's own account, or as a named one
// whose password is in the secret store under the same name.
const (
	asNobody  = "auth: none\n"
	asService = "auth:\n  windows: {as: service, keytab: %s, principal: %s}\n"
	asAccount = "auth:\n  windows: {as: account, account: 'CORP\\%[1]s', secret: %[1]s}\n"
)
