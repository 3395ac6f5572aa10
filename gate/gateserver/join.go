package gateserver

import "context"

func (s *GateServer) join(ctx, life context.Context) (leave func(), err error) {
	return func() {}, nil
}
