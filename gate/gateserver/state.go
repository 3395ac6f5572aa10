package gateserver

// Ready is closed when calls can be expected to succeed for the first time. It may
// be asked once the server was started.
func (s *GateServer) Ready() <-chan struct{} { return s.router.Ready() }

// Problems says why calls may fail now; empty when all is well. It may be asked once
// the server was started.
func (s *GateServer) Problems() []string { return s.router.Problems() }

// PushesUp says whether the gate hears every node's pushes now. It may be asked once
// the server was started.
func (s *GateServer) PushesUp() bool { return s.router.PushesUp() }
