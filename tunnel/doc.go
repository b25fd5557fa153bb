// Package tunnel is the protocol that a relay and an agent speak over one WebSocket, the link: a mutual handshake,
// then frames of many streams, several frames to a WebSocket message.
//
// SPEC.md, beside this file, is the protocol; read it first. This package implements it for both sides and imports
// nothing of ours: neither side owns it. It carries HTTP exchanges as structured heads and bodies; it does not parse
// or write HTTP, does not dial or upgrade (agent/link and relay/gateway do), and decides nothing about who may do what.
//
// The order of reading: head.go (what travels), frame.go (how it looks on the wire), handshake.go (who is there),
// link.go (reader, writer, liveness), stream.go (one exchange), flow.go (credit).
//
//	peer, err := tunnel.Greet(ctx, ws, ...)     // relay: handshake, the agent is proved
//	link := tunnel.New(ws, tunnel.RelaySide, tunnel.Options{...})
//	go link.Run(ctx)                            // ends when the link ends; says why
//	s, err := link.Open(&tunnel.Request{...}, body == nil)
//	resp, err := s.ReadResponse(ctx)            // 1xx first, if any, then the final one
//	io.Copy(w, s)
package tunnel
