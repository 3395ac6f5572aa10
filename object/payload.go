package object

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Payload is a request or a reply in one of three forms: a live message within a
// process, an Any between processes, or JSON from and to a browser. Only the node
// that has the type turns one form into another, and it answers in the form it
// was asked in. The zero Payload is an absent message.
type Payload struct {
	Message proto.Message
	Binary  *anypb.Any
	JSON    []byte
	Form    Form

	// Replayed, of a call that has an id: the answer, an error too, is that of a run which
	// an earlier attempt began, and this one has run nothing.
	Replayed bool

	// Unsaved, of an answer of a Periodic object, an error too: not all of what it tells is
	// stored yet, and a crash within the object's interval takes that back.
	Unsaved bool
}

// Form says which field of a Payload counts.
type Form uint8

const (
	FormMessage Form = iota
	FormBinary
	FormJSON
)

// OfMessage is a live message. It is shared, not copied: neither side may change
// it afterwards.
func OfMessage(m proto.Message) Payload { return Payload{Message: m} }

// OfBinary is a message as it came over the wire.
func OfBinary(a *anypb.Any) Payload { return Payload{Binary: a, Form: FormBinary} }

// OfJSON is a message as a browser wrote it; empty is a message with no field set.
func OfJSON(b []byte) Payload { return Payload{JSON: b, Form: FormJSON} }
