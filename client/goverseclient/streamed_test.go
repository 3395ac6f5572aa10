package goverseclient

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
)

// An answer over the stream has every field that a unary one has.
func TestAnAnswerIsTakenWhole(t *testing.T) {
	kinds := (&gate_pb.GateFrame{}).ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
	replies := map[string]proto.Message{
		"call_object": new(gate_pb.CallObjectResponse), "create_object": new(gate_pb.CreateObjectResponse),
		"delete_object": new(gate_pb.DeleteObjectResponse), "settle": new(gate_pb.SettleResponse),
		"reliable_call_object": new(gate_pb.ReliableCallObjectResponse),
	}
	for name, reply := range replies {
		f := new(gate_pb.GateFrame)
		answer := f.ProtoReflect().Mutable(kinds.ByName(protoreflect.Name(name))).Message()
		for i := range answer.Descriptor().Fields().Len() {
			fill(t, answer, answer.Descriptor().Fields().Get(i))
		}
		if !take(reply, f) || !proto.Equal(reply, answer.Interface()) {
			t.Errorf("%s: of %v is taken %v", name, answer.Interface(), reply)
		}
	}
}

// fill gives a field a value that is not its default.
func fill(t *testing.T, m protoreflect.Message, f protoreflect.FieldDescriptor) {
	switch f.Kind() {
	case protoreflect.MessageKind:
		fill(t, m.Mutable(f).Message(), f.Message().Fields().Get(0))
	case protoreflect.StringKind:
		m.Set(f, protoreflect.ValueOfString("x"))
	case protoreflect.BytesKind:
		m.Set(f, protoreflect.ValueOfBytes([]byte("x")))
	case protoreflect.BoolKind:
		m.Set(f, protoreflect.ValueOfBool(true))
	default:
		t.Fatalf("teach this test a %v", f.Kind())
	}
}
