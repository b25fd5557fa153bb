package store

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// Limit sets how many definitions a gateway can have.
func (d *Definitions) Limit(t *testing.T, each int) {
	t.Helper()
	d.each = each
}

// Pieces is how many objects have bytes in the store of definitions.
func (s *Store) Pieces(t *testing.T) int {
	t.Helper()
	stream, err := s.js.Stream(t.Context(), "OBJ_"+definitionStore)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(definitionPieces+">"))
	if err != nil {
		t.Fatal(err)
	}
	return len(info.State.Subjects)
}

// LeavePiece writes what a Put writes first.
func (s *Store) LeavePiece(t *testing.T) {
	t.Helper()
	if _, err := s.js.Publish(t.Context(), definitionPieces+"unfinished", []byte("a piece")); err != nil {
		t.Fatal(err)
	}
}
