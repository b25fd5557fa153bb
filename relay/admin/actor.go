package admin

import (
	"context"
	"net"
)

// actorKey is where withActor puts who is at the other end of a connection. It is for the log alone and permits nothing.
type actorKey struct{}

func withActor(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, actorKey{}, peerOf(c))
}

func actor(ctx context.Context) string {
	if who, ok := ctx.Value(actorKey{}).(string); ok {
		return who
	}
	return "unknown"
}
