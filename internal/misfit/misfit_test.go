package misfit

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const secret = "4929117603828615"

// What does not fit is named, and not repeated.
func TestWhy(t *testing.T) {
	field, file := new(descriptorpb.FieldDescriptorProto), new(descriptorpb.FileDescriptorProto)
	for _, c := range []struct {
		m    proto.Message
		json string
		want string
	}{
		{field, `{"name":` + secret + `}`, `the field "name" is not of type string`},
		{field, `{"name":"x","number":"` + secret + `x"}`, `the field "number" is not of type int32`},
		{field, `{"type":"` + secret + `"}`, `the field "type" is not of type google.protobuf.FieldDescriptorProto.Type`},
		{field, `{"typ":"` + secret + `"}`, `unknown field "typ"`},
		{field, `{"` + strings.Repeat("x", 999) + `":1}`, `unknown field "` + strings.Repeat("x", maxName) + `…"`},
		{file, `{"dependency":"` + secret + `"}`, `the field "dependency" is not a list of string`},
		{file, `{"message_type":[{"name":` + secret + `}]}`, `the field "messageType" is not a list of google.protobuf.DescriptorProto`},
		{file, `{"options":{"goPackage":{"x":` + secret + `}}}`, `in the field "options": the field "goPackage" is not of type string`},
		{file, `{"options":"` + secret + `"}`, `in the field "options": it is no JSON object`},
		{file, `null`, "it is no JSON object"},
		{file, `{"messageType":[],"message_type":[]}`, "its fields do not go together"},
		{new(durationpb.Duration), `"` + secret + `"`, "it is not how a google.protobuf.Duration is written"},
		{wrapperspb.String(""), secret, "it is not how a google.protobuf.StringValue is written"},
		{new(structpb.Struct), `["` + secret + `"]`, "it is not how a google.protobuf.Struct is written"},
		{new(structpb.Struct), `{"` + secret, "it is no JSON"},
	} {
		if err := Unmarshal([]byte(c.json), proto.Clone(c.m)); err == nil || err.Error() != c.want {
			t.Errorf("%T %s: %v, want %s", c.m, c.json, err, c.want)
		}
	}
	if err := Unmarshal([]byte(`{"options":{"goPackage":"x"}}`), file); err != nil || file.Options.GetGoPackage() != "x" {
		t.Errorf("%v, %v", file, err)
	}
}

func TestAny(t *testing.T) {
	const in = `{"@type":"type.googleapis.com/google.protobuf.`
	for json, want := range map[string]string{
		in + `FieldDescriptorProto","name":` + secret + `}`: `the field "name" is not of type string`,
		in + `Duration","value":"` + secret + `"}`:          "it is not how a google.protobuf.Duration is written",
		in + `Duration","Value":"` + secret + `"}`:          "it is no JSON",
		in + `Strange","value":"` + secret + `"}`:           `this program has no message "type.googleapis.com/google.protobuf.Strange"`,
		`{"@type":` + secret + `}`:                          `it is no JSON object with an "@type"`,
		secret:                                              `it is no JSON object with an "@type"`,
	} {
		if err := UnmarshalAny([]byte(json), new(anypb.Any)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", json, err, want)
		}
	}
	a := new(anypb.Any)
	if err := UnmarshalAny([]byte(in+`StringValue","value":"x"}`), a); err != nil || a.MessageName() != "google.protobuf.StringValue" {
		t.Errorf("%v, %v", a, err)
	}
}

// What is nested deep is not looked into to its end: that would take the square of its size.
func TestDepth(t *testing.T) {
	singular, str := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
	chain, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("chain.proto"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Link"), Field: []*descriptorpb.FieldDescriptorProto{
			{Name: proto.String("next"), JsonName: proto.String("next"), Number: proto.Int32(1), Label: singular, Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: proto.String(".Link")},
			{Name: proto.String("name"), JsonName: proto.String("name"), Number: proto.Int32(2), Label: singular, Type: str},
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const deep = 5000
	text := strings.Repeat(`{"next":`, deep) + `{"name":` + secret + `}` + strings.Repeat("}", deep)
	want := strings.Repeat(`in the field "next": `, maxDepth-1) + `the field "next" is not of type Link`
	if err := Unmarshal([]byte(text), dynamicpb.NewMessage(chain.Messages().Get(0))); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
