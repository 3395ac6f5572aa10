package node

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/object"
)

// account is a message with fields that are not to be shown, in every kind of place.
const account = `
name: "account.proto" package: "redact" syntax: "proto3" dependency: "google/protobuf/any.proto"
message_type {
  name: "Account"
  field { name: "owner" json_name: "owner" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "pass_word" json_name: "passWord" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL options { debug_redact: true } }
  field { name: "inner" json_name: "inner" number: 3 type: TYPE_MESSAGE type_name: ".redact.Account" label: LABEL_OPTIONAL }
  field { name: "list" json_name: "list" number: 4 type: TYPE_MESSAGE type_name: ".redact.Account" label: LABEL_REPEATED }
  field { name: "map" json_name: "map" number: 5 type: TYPE_MESSAGE type_name: ".redact.Account.MapEntry" label: LABEL_REPEATED }
  field { name: "any" json_name: "any" number: 6 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL }
  field { name: "keys" json_name: "keys" number: 7 type: TYPE_BYTES label: LABEL_REPEATED options { debug_redact: true } }
  field { name: "words" json_name: "words" number: 8 type: TYPE_STRING label: LABEL_REPEATED }
  nested_type { name: "MapEntry" options { map_entry: true }
    field { name: "key" json_name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" json_name: "value" number: 2 type: TYPE_MESSAGE type_name: ".redact.Account" label: LABEL_OPTIONAL } }
}`

func accountDescriptor(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	m := new(descriptorpb.FileDescriptorProto)
	if err := prototext.Unmarshal([]byte(account), m); err != nil {
		t.Fatal(err)
	}
	_ = anypb.File_google_protobuf_any_proto // the dependency is linked
	f, err := protodesc.NewFile(m, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return f.Messages().ByName("Account")
}

func TestRedaction(t *testing.T) {
	d := accountDescriptor(t)
	m := dynamicpb.NewMessage(d)
	err := protojson.Unmarshal([]byte(`{"owner":"ann","passWord":"secret","keys":["c2VjcmV0"],"words":["w"],
		"inner":{"owner":"bob","passWord":"secret","inner":{"passWord":"secret"}},
		"list":[{"passWord":"secret"},{"owner":"cid","passWord":"secret"}], "map":{"k":{"passWord":"secret","owner":"dan"}},
		"any":{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"open"}}`), m)
	if err != nil {
		t.Fatal(err)
	}
	var r redaction
	r.message(m, "")
	text, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, open := range []string{"ann", "bob", "cid", "dan", "open", `"w"`} {
		if !strings.Contains(string(text), open) {
			t.Errorf("%s is hidden: %s", open, text)
		}
	}
	if strings.Contains(string(text), "secret") || strings.Contains(string(text), "c2VjcmV0") {
		t.Errorf("it shows what it should hide: %s", text)
	}
	hidden := map[string]bool{}
	for _, h := range r.hidden {
		hidden[h] = true
	}
	for _, want := range []string{"passWord", "keys", "inner.passWord", "inner.inner.passWord", "list.*.passWord", "map.*.passWord"} {
		if !hidden[want] {
			t.Errorf("%s is not said to be hidden: %q", want, r.hidden)
		}
	}
	if len(r.hidden) != 6 {
		t.Errorf("%q", r.hidden)
	}
}

// What is packed in a message that nobody here knows is not shown.
func TestRedactionOfTheUnknown(t *testing.T) {
	m := dynamicpb.NewMessage(accountDescriptor(t))
	f := m.Descriptor().Fields().ByName("any")
	m.Set(f, protoreflect.ValueOfMessage((&anypb.Any{TypeUrl: "type.googleapis.com/redact.Unknown", Value: []byte("secret")}).ProtoReflect()))
	var r redaction
	r.message(m, "")
	b, err := proto.Marshal(m)
	if err != nil || strings.Contains(string(b), "secret") || fmt.Sprint(r.hidden) != "[any]" {
		t.Errorf("%q, %v, %v", b, r.hidden, err)
	}
	for _, data := range []string{`{"@type":"type.googleapis.com/redact.Unknown","a":"secret"}`, `{"@type":"type.googleapis.com/google.protobuf.StringValue","@version":3,"value":"secret"}`, `"secret"`, ``} {
		if state, _, why := shownState([]byte(data), new(object.Type)); state != nil || why == "" {
			t.Errorf("%s: %s, %q", data, state, why)
		}
	}
}
