package protohelper

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestThereAndBack(t *testing.T) {
	for _, m := range []proto.Message{wrapperspb.String("x"), new(emptypb.Empty), (*emptypb.Empty)(nil)} {
		a, err := MsgToAny(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := AnyToMsg(a)
		if err != nil || got.ProtoReflect().Descriptor() != m.ProtoReflect().Descriptor() || !proto.Equal(got, m) && m.ProtoReflect().IsValid() {
			t.Errorf("%v came back as %v, %v", m, got, err)
		}
	}
}

func TestNilStaysNil(t *testing.T) {
	if a, err := MsgToAny(nil); a != nil || err != nil {
		t.Error(a, err)
	}
	if m, err := AnyToMsg(nil); m != nil || err != nil {
		t.Error(m, err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	if _, err := MsgToAny(wrapperspb.String("\xff")); err == nil || !strings.Contains(err.Error(), "google.protobuf.StringValue") {
		t.Error(err)
	}
	_, err := AnyToMsg(&anypb.Any{TypeUrl: "type.googleapis.com/no.Such"})
	if !errors.Is(err, protoregistry.NotFound) || !strings.Contains(err.Error(), "no.Such") || !strings.Contains(err.Error(), "import") {
		t.Error(err)
	}
	for _, a := range []*anypb.Any{{}, {TypeUrl: "x/google.protobuf.StringValue", Value: []byte{0xff}}} {
		if m, err := AnyToMsg(a); err == nil {
			t.Errorf("%v was read as %v", a, m)
		}
	}
}

func FuzzAnyToMsg(f *testing.F) {
	f.Add("type.googleapis.com/google.protobuf.StringValue", []byte("\n\x01x"))
	f.Add("google.protobuf.Any", []byte{})
	f.Fuzz(func(t *testing.T, url string, value []byte) {
		m, err := AnyToMsg(&anypb.Any{TypeUrl: url, Value: value})
		if err != nil {
			return
		}
		a, err := MsgToAny(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := AnyToMsg(a)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := MsgToAny(again); err != nil || !bytes.Equal(a.Value, b.Value) { // bytes, because NaN is unequal to itself
			t.Fatalf("%v came back as %v, %v", m, again, err)
		}
	})
}
