// Package misfit says why JSON is not the JSON of a message without a word of what is in
// it: protojson's own errors quote values, which may be anybody's secrets, and errors end
// up with other callers and in logs.
package misfit

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
)

// Unmarshal is protojson.Unmarshal, and its error names the first field that is unknown or
// does not fit, and repeats nothing else.
func Unmarshal(data []byte, m proto.Message) error {
	if protojson.Unmarshal(data, m) == nil {
		return nil
	}
	return why(data, m.ProtoReflect().Descriptor(), maxDepth)
}

const (
	maxName  = 64 // bytes of the name of a field that somebody has made up
	maxDepth = 8  // messages within messages that are looked into: each is read once more for each around it
)

// why says what is wrong with JSON that is not a message's.
func why(data []byte, of protoreflect.MessageDescriptor, depth int) error {
	var parts map[string]json.RawMessage
	switch {
	case !json.Valid(data):
		return errors.New("it is no JSON")
	case ownForm(of):
		return fmt.Errorf("it is not how a %s is written", of.FullName())
	case json.Unmarshal(data, &parts) != nil || parts == nil:
		return errors.New("it is no JSON object")
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if err := field(name, parts[name], of, depth); err != nil {
			return err
		}
	}
	return errors.New("its fields do not go together") // as two of a oneof
}

// UnmarshalAny is Unmarshal of JSON that says its "@type".
func UnmarshalAny(data []byte, a *anypb.Any) error {
	if protojson.Unmarshal(data, a) == nil {
		return nil
	}
	var parts map[string]json.RawMessage
	var url string
	if json.Unmarshal(data, &parts) != nil || json.Unmarshal(parts["@type"], &url) != nil {
		return errors.New(`it is no JSON object with an "@type"`)
	}
	t, err := protoregistry.GlobalTypes.FindMessageByURL(url)
	if err != nil {
		return fmt.Errorf("this program has no message %s", cut(url))
	}
	body := parts["value"]
	if of := t.Descriptor(); !ownForm(of) {
		delete(parts, "@type")
		body, _ = json.Marshal(parts) // it was read from JSON
	}
	return why(body, t.Descriptor(), maxDepth)
}

// ownForm says that the JSON of a message is not an object with its fields.
func ownForm(of protoreflect.MessageDescriptor) bool {
	name, ours := strings.CutPrefix(string(of.FullName()), "google.protobuf.")
	return ours && slices.Contains(ownForms, name)
}

// ownForms are the messages that protojson writes in a way of their own.
var ownForms = []string{
	"Any", "Timestamp", "Duration", "FieldMask", "Struct", "Value", "ListValue",
	"BoolValue", "Int32Value", "Int64Value", "UInt32Value", "UInt64Value", "FloatValue", "DoubleValue", "StringValue", "BytesValue",
}

// field is nil for one that fits.
func field(name string, value json.RawMessage, of protoreflect.MessageDescriptor, depth int) error {
	f := of.Fields().ByJSONName(name)
	if f == nil {
		f = of.Fields().ByTextName(name)
	}
	if f == nil {
		return fmt.Errorf("unknown field %s", cut(name))
	}
	alone, err := json.Marshal(map[string]json.RawMessage{name: value})
	if err != nil {
		return err
	}
	if (protojson.UnmarshalOptions{AllowPartial: true}).Unmarshal(alone, dynamicpb.NewMessage(of)) == nil {
		return nil
	}
	if depth > 1 && f.Message() != nil && !f.IsList() && !f.IsMap() && !ownForm(f.Message()) {
		return fmt.Errorf("in the field %q: %w", f.JSONName(), why(value, f.Message(), depth-1))
	}
	return fmt.Errorf("the field %q is not %s", f.JSONName(), wanted(f))
}

// wanted is what a field takes.
func wanted(f protoreflect.FieldDescriptor) string {
	kind := f.Kind().String()
	switch {
	case f.Message() != nil && !f.IsMap():
		kind = string(f.Message().FullName())
	case f.Enum() != nil:
		kind = string(f.Enum().FullName())
	}
	switch {
	case f.IsMap():
		return "a map that fits"
	case f.IsList():
		return "a list of " + kind
	default:
		return "of type " + kind
	}
}

func cut(name string) string {
	if len(name) > maxName {
		name = name[:maxName] + "…"
	}
	return fmt.Sprintf("%q", name)
}
