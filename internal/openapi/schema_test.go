package openapi

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"
)

// described is a document to validate messages by.
func described(t testing.TB) (*Types, validator) {
	t.Helper()
	ts := typesOf(t, everything(t))
	root, err := parse(ts.Document(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	return ts, validator{root.(obj)}
}

// What protojson makes of any message is what its schema says, and what it takes.
func TestSchemasOfRandomMessages(t *testing.T) {
	ts, v := described(t)
	for _, name := range []protoreflect.FullName{"test.Everything", "old.Old", "test.Everything.Nested"} {
		d := descriptor(t, ts, name)
		schema := obj{"$ref": componentsRoot + string(name)}
		t.Run(string(name), rapid.MakeCheck(func(t *rapid.T) {
			m := draw(t, d, 3)
			b, err := protojson.MarshalOptions{Resolver: ts}.Marshal(m)
			if err != nil {
				t.Fatalf("%v: %v", m, err)
			}
			value, err := parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.check(schema, value, ""); err != nil {
				t.Fatalf("%s\n%v", b, err)
			}
		}))
	}
}

// draw is a message with random fields, down to a depth.
func draw(t *rapid.T, d protoreflect.MessageDescriptor, depth int) *dynamicpb.Message {
	m := dynamicpb.NewMessage(d)
	if drawn := drawWellKnown(t, m); drawn {
		return m
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if f.Cardinality() != protoreflect.Required && (f.Message() != nil && !f.IsMap() && depth == 0 || rapid.IntRange(0, 2).Draw(t, "leave out "+f.TextName()) > 0) {
			continue
		}
		switch {
		case f.IsMap():
			if f.MapValue().Message() != nil && depth == 0 {
				continue
			}
			for range rapid.IntRange(1, 2).Draw(t, "size") {
				m.Mutable(f).Map().Set(drawValue(t, f.MapKey(), depth).MapKey(), drawValue(t, f.MapValue(), depth))
			}
		case f.IsList():
			for range rapid.IntRange(1, 2).Draw(t, "size") {
				m.Mutable(f).List().Append(drawValue(t, f, depth))
			}
		default:
			m.Set(f, drawValue(t, f, depth))
		}
	}
	return m
}

func drawValue(t *rapid.T, f protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	name := f.TextName()
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, name))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.String().Draw(t, name))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(rapid.SliceOf(rapid.Byte()).Draw(t, name))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(rapid.OneOf(rapid.Float64(), rapid.Just(math.NaN()), rapid.Just(math.Inf(-1))).Draw(t, name))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(rapid.OneOf(rapid.Float32(), rapid.Just(float32(math.Inf(1)))).Draw(t, name))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(rapid.Int32().Draw(t, name))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(rapid.Uint32().Draw(t, name))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(rapid.Uint64().Draw(t, name))
	case protoreflect.EnumKind:
		if f.Enum().FullName() == "google.protobuf.NullValue" {
			return protoreflect.ValueOfEnum(0)
		}
		if f.Enum().IsClosed() {
			values := f.Enum().Values()
			return protoreflect.ValueOfEnum(values.Get(rapid.IntRange(0, values.Len()-1).Draw(t, name)).Number())
		}
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(rapid.Int32Range(-1, 6).Draw(t, name)))
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return protoreflect.ValueOfMessage(draw(t, f.Message(), depth-1))
	default:
		return protoreflect.ValueOfInt64(rapid.Int64().Draw(t, name))
	}
}

// drawWellKnown fills in a message that does not take just any fields.
func drawWellKnown(t *rapid.T, m *dynamicpb.Message) bool {
	set := func(name string, v any) {
		m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOf(v))
	}
	field := func(name string) protoreflect.FieldDescriptor {
		return m.Descriptor().Fields().ByName(protoreflect.Name(name))
	}
	switch m.Descriptor().FullName() {
	case "google.protobuf.Timestamp":
		set("seconds", rapid.Int64Range(-62135596800, 253402300799).Draw(t, "seconds"))
		set("nanos", rapid.Int32Range(0, 999999999).Draw(t, "nanos"))
	case "google.protobuf.Duration":
		set("seconds", rapid.Int64Range(0, 315576000000).Draw(t, "seconds"))
		set("nanos", rapid.Int32Range(0, 999999999).Draw(t, "nanos"))
		if rapid.Bool().Draw(t, "negative") {
			set("seconds", -m.Get(field("seconds")).Int())
			set("nanos", int32(-m.Get(field("nanos")).Int()))
		}
	case "google.protobuf.FieldMask":
		for range rapid.IntRange(0, 2).Draw(t, "paths") {
			m.Mutable(field("paths")).List().Append(protoreflect.ValueOfString("foo_bar.baz"))
		}
	case "google.protobuf.Any":
		if rapid.Bool().Draw(t, "empty") {
			break
		}
		packed := draw(t, field("value").ParentFile().Messages().Get(0), 0) // an empty Any
		b, _ := proto.Marshal(packed)
		set("type_url", "type.googleapis.com/google.protobuf.Any")
		set("value", b)
	case "google.protobuf.Value":
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			set("number_value", rapid.Float64Range(-1e9, 1e9).Draw(t, "number"))
		case 1:
			set("string_value", rapid.String().Draw(t, "string"))
		case 2:
			set("bool_value", rapid.Bool().Draw(t, "bool"))
		default:
			set("null_value", protoreflect.EnumNumber(0))
		}
	case "google.protobuf.ListValue":
		for range rapid.IntRange(0, 2).Draw(t, "size") {
			m.Mutable(field("values")).List().Append(protoreflect.ValueOfMessage(draw(t, field("values").Message(), 0)))
		}
	case "google.protobuf.Struct":
		for range rapid.IntRange(0, 2).Draw(t, "size") {
			key := protoreflect.ValueOfString(rapid.String().Draw(t, "key")).MapKey()
			m.Mutable(field("fields")).Map().Set(key, protoreflect.ValueOfMessage(draw(t, field("fields").MapValue().Message(), 0)))
		}
	default:
		return false
	}
	return true
}

// What protojson would refuse, or would not say so, is not what the schema says.
func TestSchemasRefuse(t *testing.T) {
	_, v := described(t)
	for _, c := range []struct{ message, json, why string }{
		{"test.Everything", `{"unknown": 1}`, "nothing is allowed"},
		{"test.Everything", `[]`, "no object"},
		{"test.Everything", `{"anInt32": 1.5}`, "no integer"},
		{"test.Everything", `{"anInt32": 2147483648}`, "too large"},
		{"test.Everything", `{"aUint32": -1}`, "too small"},
		{"test.Everything", `{"anInt64": 5}`, "no string"},
		{"test.Everything", `{"anInt64": "5.5"}`, "not of the form"},
		{"test.Everything", `{"aUint64": "-5"}`, "not of the form"},
		{"test.Everything", `{"aBool": "true"}`, "no boolean"},
		{"test.Everything", `{"someBytes": "%"}`, "illegal base64"},
		{"test.Everything", `{"color": "GREEN"}`, "fit"},
		{"test.Everything", `{"aDouble": "many"}`, "fit"},
		{"test.Everything", `{"text": "a", "number": "1"}`, "fit"},
		{"test.Everything", `{"strings": "a"}`, "no array"},
		{"test.Everything", `{"strings": [1]}`, "no string"},
		{"test.Everything", `{"byNumber": {"x": "1"}}`, "not of the form"},
		{"test.Everything", `{"byTruth": {"yes": "RED"}}`, "not of the form"},
		{"test.Everything", `{"byName": {"x": 1}}`, "no object"},
		{"test.Everything", `{"self": {"self": {"aBool": 1}}}`, "no boolean"},
		{"test.Everything", `{"at": "yesterday"}`, "cannot parse"},
		{"test.Everything", `{"lasts": "1h"}`, "not of the form"},
		{"test.Everything", `{"empty": {"a": 1}}`, "nothing is allowed"},
		{"test.Everything", `{"null": [0]}`, "no null"},
		{"test.Everything", `{"a_bool": true}`, "nothing is allowed"},
		{"old.Old", `{}`, "needed is missing"},
		{"old.Old", `{"needed": "1", "pair": [{"left": "a"}]}`, "right is missing"},
	} {
		value, err := parse([]byte(c.json))
		if err != nil {
			t.Fatal(err)
		}
		err = v.check(obj{"$ref": componentsRoot + c.message}, value, "")
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", c.json, err)
		}
	}
	for _, json := range []string{`{"text": ""}`, `{"needed": "1", "[old.more]": 3}`} {
		message := "test.Everything"
		if strings.Contains(json, "needed") {
			message = "old.Old"
		}
		value, _ := parse([]byte(json))
		if err := v.check(obj{"$ref": componentsRoot + message}, value, ""); err != nil {
			t.Error(err)
		}
	}
}

// A resolver of messages that this program does not have reads and writes them in an Any.
func TestResolver(t *testing.T) {
	ts, _ := described(t)
	text := `{"@type":"type.googleapis.com/test.Everything","anInt64":"7","any":{"@type":"x/google.protobuf.StringValue","value":"hi"}}`
	a := dynamicpb.NewMessage(descriptor(t, ts, "google.protobuf.Any"))
	if err := (protojson.UnmarshalOptions{Resolver: ts}).Unmarshal([]byte(text), a); err != nil {
		t.Fatal(err)
	}
	b, err := protojson.MarshalOptions{Resolver: ts}.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal([]byte(text), &want)
	if same, _ := json.Marshal(got); string(same) != string(mustJSON(want)) {
		t.Errorf("%s", b)
	}
	if _, err := ts.FindMessageByURL("type.googleapis.com/test.Nothing"); err == nil {
		t.Error("there is no such message")
	}
	if _, err := ts.FindMessageByName("test.Color"); err == nil {
		t.Error("an enum is no message")
	}
}

func mustJSON(v any) []byte { b, _ := json.Marshal(v); return b }
