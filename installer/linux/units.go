// Package linux holds the systemd units that the packages install, for the programs that install themselves
// ('sallyport-agent service install'). It is text and nothing else.
package linux

import _ "embed"

// AgentUnit is sallyport-agent.service.
//
//go:embed sallyport-agent.service
var AgentUnit string

// RelayUnit is sallyport-relay.service.
//
//go:embed sallyport-relay.service
var RelayUnit string
