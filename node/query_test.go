package node

import (
	"encoding/json"
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
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

const searchFile = `
name: "search.proto" package: "search" syntax: "proto3"
dependency: "google/protobuf/wrappers.proto" dependency: "google/protobuf/timestamp.proto" dependency: "google/protobuf/any.proto"
message_type {
  name: "Search"
  field { name: "text" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "only_new" json_name: "onlyNew" number: 2 label: LABEL_OPTIONAL type: TYPE_BOOL }
  field { name: "limit" number: 3 label: LABEL_OPTIONAL type: TYPE_INT64 }
  field { name: "ratio" number: 4 label: LABEL_OPTIONAL type: TYPE_DOUBLE }
  field { name: "words" number: 5 label: LABEL_REPEATED type: TYPE_STRING }
  field { name: "flags" number: 6 label: LABEL_REPEATED type: TYPE_BOOL }
  field { name: "order" number: 7 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".search.Order" }
  field { name: "inner" number: 8 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".search.Search" }
  field { name: "many" number: 9 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".search.Search" }
  field { name: "labels" number: 10 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".search.Search.LabelsEntry" }
  field { name: "maybe" number: 11 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.BoolValue" }
  field { name: "since" number: 12 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" }
  field { name: "any" number: 13 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Any" }
  nested_type {
    name: "LabelsEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_BOOL }
  }
}
enum_type { name: "Order" value { name: "UP" number: 0 } value { name: "DOWN" number: 1 } }
`

// searchMessage is a message with a field of each kind that a query can or cannot say.
func searchMessage(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()
	f := new(descriptorpb.FileDescriptorProto)
	if err := prototext.Unmarshal([]byte(searchFile), f); err != nil {
		t.Fatal(err)
	}
	file, err := protodesc.NewFile(f, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().Get(0)
}

func searching(d protoreflect.MessageDescriptor) *object.Method {
	return &object.Method{Name: "Find", ReadOnly: true, Request: dynamicpb.NewMessageType(d).Zero().Interface()}
}

func TestRequestFromAQuery(t *testing.T) {
	m := searching(searchMessage(t))
	for query, want := range map[string]string{
		`{}`: `{}`,
		`{"text":"a.b","limit":"5","ratio":"0.5","words":"one","flags":["true","false"]}`: `{"text":"a.b","limit":"5","ratio":0.5,"words":["one"],"flags":[true,false]}`,
		`{"onlyNew":"true"}`:  `{"onlyNew":true}`,
		`{"only_new":"true"}`: `{"onlyNew":true}`,
		`{"order":"DOWN"}`:    `{"order":"DOWN"}`,
		`{"order":"1"}`:       `{"order":"DOWN"}`,
		`{"inner.onlyNew":"true","inner.inner.words":["a","b"],"inner.text":"x"}`: `{"inner":{"onlyNew":true,"text":"x","inner":{"words":["a","b"]}}}`,
		`{"labels.a.b":"true","labels.c":"false"}`:                                `{"labels":{"a.b":true,"c":false}}`,
		`{"maybe":"true","since":"2026-01-02T03:04:05Z"}`:                         `{"maybe":true,"since":"2026-01-02T03:04:05Z"}`,
		`{"onlyNew":true,"words":["x"]}`:                                          `{"onlyNew":true,"words":["x"]}`, // no query: as it is
		``:                                                                        `{}`,
	} {
		got, err := decodeAsked(m, object.OfJSON([]byte(query)), true)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		expected := m.Request.ProtoReflect().New().Interface()
		if err := protojson.Unmarshal([]byte(want), expected); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, expected) {
			t.Errorf("%s: %v", query, got)
		}
	}
}

func TestQueriesThatAreRefused(t *testing.T) {
	m := searching(searchMessage(t))
	for query, why := range map[string]string{
		`{"txt":"a"}`:                          `"txt" is not a field of search.Search, which has: text, onlyNew, limit`,
		`{"inner.txt":"a"}`:                    `"inner.txt" is not a field`,
		`{"onlyNew":"yes"}`:                    `is "yes"; give true or false`,
		`{"maybe":"1"}`:                        `give true or false`,
		`{"text":["a","b"]}`:                   `is there 2 times`,
		`{"onlyNew":"true","only_new":"true"}`: `two names`,
		`{"inner":"{}"}`:                       `give its fields`,
		`{"many":"{}"}`:                        `use POST`,
		`{"many.text":"a"}`:                    `use POST`,
		`{"any.value":"a"}`:                    `use POST`,
		`{"any":"a"}`:                          `google.protobuf.Any`,
		`{"text.a":"a"}`:                       `none of its own`,
		`{"since.seconds":"1"}`:                `none of its own`,
		`{"labels":"a"}`:                       `as name.key=value`,
		`{"labels.a":["true","false"]}`:        `is there 2 times`,
		`{"limit":"many"}`:                     `limit`,
		`{"order":"SIDEWAYS"}`:                 `order`,
		`{"text":"a","text.b":"c"}`:            `twice`,
		`{"":"a"}`:                             `is not a field`,
		`{"` + strings.Repeat("inner.", maxQueryDepth) + `text":"a"}`: `deep`,
	} {
		_, err := decodeAsked(m, object.OfJSON([]byte(query)), true)
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", query, err)
		}
	}
	if _, err := decodeAsked(m, object.OfJSON([]byte(`{"onlyNew":"true"}`)), false); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a POST is not read as a query: %v", err)
	}
}

func TestScalarRequestFromAQuery(t *testing.T) {
	for _, c := range []struct {
		request     proto.Message
		query, want string
	}{
		{(*wrapperspb.Int64Value)(nil), `{"value":"5"}`, `"5"`},
		{(*wrapperspb.BoolValue)(nil), `{"value":"true"}`, `true`},
		{(*wrapperspb.StringValue)(nil), `{"value":"a.b"}`, `"a.b"`},
		{(*structpb.Struct)(nil), `{"a.b":"1","c":["2","3"]}`, `{"a.b":"1","c":["2","3"]}`},
	} {
		m := &object.Method{Request: c.request}
		got, err := decodeAsked(m, object.OfJSON([]byte(c.query)), true)
		want := c.request.ProtoReflect().New().Interface()
		if wrong := protojson.Unmarshal([]byte(c.want), want); err != nil || wrong != nil || !proto.Equal(got, want) {
			t.Errorf("%s: %v, %v", c.query, got, err)
		}
	}
	for _, query := range []string{`{"n":"5"}`, `{"value":["5","6"]}`, `{"value":"5","n":"6"}`} {
		_, err := decodeAsked(&object.Method{Request: (*wrapperspb.Int64Value)(nil)}, object.OfJSON([]byte(query)), true)
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "?value=") {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// Whatever a query says, what it makes is JSON, or it is refused in words.
func FuzzQuery(f *testing.F) {
	f.Add("inner.inner.text", "a", "labels.x", "true")
	f.Add("onlyNew", "true", "only_new", "false")
	f.Add("..", "", "inner.", "1")
	d := searchMessage(f)
	f.Fuzz(func(t *testing.T, name, value, other, more string) {
		query, err := json.Marshal(map[string]any{name: value, other: []string{more, value}})
		if err != nil {
			t.Skip()
		}
		out, err := fromQuery(d, query)
		if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Error(err)
		}
		if err == nil && !json.Valid(out) {
			t.Errorf("%q", out)
		}
	})
}
