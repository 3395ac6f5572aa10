package server

import (
	"context"

	"github.com/xiaonanln/goverse/object"
)

// ListObjects implements object.Records.
func (s *Server) ListObjects(ctx context.Context, objType, after string, limit int) ([]object.Listed, error) {
	return s.Node.ListObjects(ctx, objType, after, limit)
}

// StoredState implements object.Records.
func (s *Server) StoredState(ctx context.Context, ref object.Ref) (object.Record, error) {
	return s.Node.StoredState(ctx, ref)
}
