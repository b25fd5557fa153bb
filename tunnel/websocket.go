package tunnel

import (
	"sync"

	"github.com/gorilla/websocket"
)

const (
	// readBuffer is small since each link has one for all its life. What does not fit is read past it, to where it belongs.
	readBuffer = 1 << 10
	// writeBuffer holds a whole message and the WebSocket's own header, so that a message is one frame and one system
	// call. The buffers are pooled: an idle link holds none.
	writeBuffer = MaxMessage + 64
)

var writeBuffers sync.Pool

// NewUpgrader gives an upgrader set up for links; the caller adds CheckOrigin and Error.
func NewUpgrader() *websocket.Upgrader {
	return &websocket.Upgrader{
		HandshakeTimeout: handshakeTimeout,
		ReadBufferSize:   readBuffer,
		WriteBufferSize:  writeBuffer,
		WriteBufferPool:  &writeBuffers,
		Subprotocols:     []string{Subprotocol},
	}
}

// NewDialer gives a dialer set up for links; the caller adds TLS, proxy and how to dial.
func NewDialer() *websocket.Dialer {
	return &websocket.Dialer{
		HandshakeTimeout: handshakeTimeout,
		ReadBufferSize:   readBuffer,
		WriteBufferSize:  writeBuffer,
		WriteBufferPool:  &writeBuffers,
		Subprotocols:     []string{Subprotocol},
	}
}
