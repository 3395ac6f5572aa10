package gate

import "github.com/xiaonanln/goverse/object"

// newClientID is the gate's address and 128 random bits. The address tells every
// node where pushes to the client go; the rest cannot be guessed.
func newClientID(address string) string { return address + "/" + object.NewID() }
