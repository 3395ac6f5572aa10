package gateserver

// comeback is what a client says that wants a session which outlives its connection: the
// token of the one to go on with, if there is one, and the last message that came there.
type comeback struct {
	token string
	last  uint64
}
