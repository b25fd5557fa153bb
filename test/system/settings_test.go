//go:build linux

package system

// relayYAML is the relay's configuration: its public URL, its address, the box's directory.
const relayYAML = `url: %[1]s
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
`
