package admin

import (
	"context"
	"net"
)

// actorKey is where withActor puts who is at the other end of a connection of the local socket, whose file mode has decided
// that it may do everything.
type actorKey struct{}

func withActor(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, actorKey{}, peerOf(c))
}

func actor(ctx context.Context) string {
	if p, ok := ctx.Value(principalKey{}).(*principal); ok {
		return p.String()
	}
	if who, ok := ctx.Value(actorKey{}).(string); ok {
		return who
	}
	return "unknown"
}
