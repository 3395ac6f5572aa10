package gateserver

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// jsonCodec is protojson for the Connect protocol. What a request holds in an Any are
// messages of the nodes, which the gate knows from them.
type jsonCodec struct {
	name  string
	types *describer
}

// Name implements connect.Codec.
func (c jsonCodec) Name() string { return c.name }

// Marshal implements connect.Codec.
func (c jsonCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no message", v)
	}
	return protojson.MarshalOptions{Resolver: nodesTypes{c.types}}.Marshal(m)
}

// Unmarshal implements connect.Codec.
func (c jsonCodec) Unmarshal(b []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no message", v)
	}
	if len(b) == 0 {
		return fmt.Errorf("nothing is no JSON; a message with no field set is {}")
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true, Resolver: nodesTypes{c.types}}.Unmarshal(b, m)
}

// nodesTypes resolves messages by what the nodes say of them. A name that is not known is
// asked for again, but not more often than the describer asks.
type nodesTypes struct{ describer *describer }

// nodesWithin bounds how long a message waits for the nodes to say what it is.
const nodesWithin = 3 * time.Second

func (r nodesTypes) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if last := r.describer.last.Load(); last != nil {
		if t, err := last.types.FindMessageByURL(url); err == nil {
			return t, nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), nodesWithin)
	defer cancel()
	types, err := r.describer.types(ctx)
	if err != nil {
		return nil, fmt.Errorf("what %s is could not be asked of the nodes: %w", url, err)
	}
	return types.FindMessageByURL(url)
}

func (r nodesTypes) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	return r.FindMessageByURL(string(name))
}

func (nodesTypes) FindExtensionByName(protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}

func (nodesTypes) FindExtensionByNumber(protoreflect.FullName, protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}
