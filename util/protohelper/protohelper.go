// Package protohelper turns protobuf messages into Any and back. An absent message
// is nil on both sides.
package protohelper

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
)

// MsgToAny packs m, with its type's name, into an Any; nil becomes nil. It fails
// when m cannot be marshalled, as with a string that is not UTF-8.
func MsgToAny(m proto.Message) (*anypb.Any, error) {
	if m == nil {
		return nil, nil
	}
	a, err := anypb.New(m)
	if err != nil {
		return nil, fmt.Errorf("packing a %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return a, nil
}

// AnyToMsg unpacks a into a new message; nil becomes nil. The message's type must
// be linked into the program, which importing its generated package does.
func AnyToMsg(a *anypb.Any) (proto.Message, error) {
	if a == nil {
		return nil, nil
	}
	m, err := a.UnmarshalNew()
	switch {
	case errors.Is(err, protoregistry.NotFound):
		return nil, fmt.Errorf("unpacking a %q: this program does not know the type; import the Go package generated for it: %w", a.GetTypeUrl(), err)
	case err != nil:
		return nil, fmt.Errorf("unpacking a %q: %w", a.GetTypeUrl(), err)
	}
	return m, nil
}
