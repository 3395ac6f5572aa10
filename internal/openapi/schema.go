package openapi

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// obj is a JSON object. Marshalled, its keys are in order.
type obj = map[string]any

// schemas is the JSON Schemas of messages and enums in protojson's mapping, as components
// that refer to each other.
type schemas struct {
	components obj
	taken      map[string]string // a component's name: the fingerprint of what it is made of
}

func newSchemas() *schemas { return &schemas{components: obj{}, taken: map[string]string{}} }

const componentsRoot = "#/components/schemas/"

// message is the schema of a message.
func (s *schemas) message(d protoreflect.MessageDescriptor) obj {
	if own := wellKnown(d.FullName()); own != nil {
		return own
	}
	return s.component(d, func() obj { return s.fields(d) })
}

// component is a reference to the schema of d, which build makes once.
func (s *schemas) component(d protoreflect.Descriptor, build func() obj) obj {
	name, isNew := s.name(d)
	if isNew {
		s.components[name] = obj{} // it may refer to itself
		s.components[name] = build()
	}
	return obj{"$ref": componentsRoot + name}
}

// name is the full protobuf name. While two versions of a message are about, the one that
// came second has the beginning of its fingerprint behind it.
func (s *schemas) name(d protoreflect.Descriptor) (name string, isNew bool) {
	name, version := string(d.FullName()), fingerprint(d)
	if other, ok := s.taken[name]; ok && other != version {
		name += "-" + version[:8]
	}
	_, known := s.taken[name]
	s.taken[name] = version
	return name, !known
}

// fields is the schema of a message that has no JSON form of its own.
func (s *schemas) fields(d protoreflect.MessageDescriptor) obj {
	properties, required := obj{}, []string{}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		properties[f.JSONName()] = s.field(f)
		if f.Cardinality() == protoreflect.Required {
			required = append(required, f.JSONName())
		}
	}
	schema := obj{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		schema["required"] = required
	}
	if d.ExtensionRanges().Len() > 0 {
		schema["patternProperties"] = obj{`^\[.*\]$`: obj{}}
	}
	if choices := choicesOf(d); len(choices) > 0 {
		schema["allOf"] = choices
	}
	return schema
}

// choicesOf says of each oneof that at most one of its fields is there.
func choicesOf(d protoreflect.MessageDescriptor) (all []any) {
	for i := range d.Oneofs().Len() {
		o := d.Oneofs().Get(i)
		if o.IsSynthetic() || o.Fields().Len() < 2 {
			continue
		}
		var one []any
		for j := range o.Fields().Len() {
			one = append(one, obj{"required": []string{o.Fields().Get(j).JSONName()}})
		}
		all = append(all, obj{"oneOf": append(slices.Clone(one), obj{"not": obj{"anyOf": one}})})
	}
	return all
}

func (s *schemas) field(f protoreflect.FieldDescriptor) obj {
	switch {
	case f.IsMap():
		schema := obj{"type": "object", "additionalProperties": s.value(f.MapValue())}
		if keys := mapKeys[f.MapKey().Kind()]; keys != "" {
			schema["propertyNames"] = obj{"pattern": keys}
		}
		return schema
	case f.IsList():
		return obj{"type": "array", "items": s.value(f)}
	}
	return s.value(f)
}

const (
	signed   = `^-?[0-9]+$`
	unsigned = `^[0-9]+$`
)

var mapKeys = map[protoreflect.Kind]string{
	protoreflect.BoolKind:  `^(true|false)$`,
	protoreflect.Int32Kind: signed, protoreflect.Sint32Kind: signed, protoreflect.Sfixed32Kind: signed,
	protoreflect.Int64Kind: signed, protoreflect.Sint64Kind: signed, protoreflect.Sfixed64Kind: signed,
	protoreflect.Uint32Kind: unsigned, protoreflect.Fixed32Kind: unsigned, protoreflect.Uint64Kind: unsigned, protoreflect.Fixed64Kind: unsigned,
}

// value is the schema of one value of a field.
func (s *schemas) value(f protoreflect.FieldDescriptor) obj {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return s.message(f.Message())
	case protoreflect.EnumKind:
		return s.enum(f.Enum())
	default:
		return scalar(f.Kind())
	}
}

func scalar(k protoreflect.Kind) obj {
	switch k {
	case protoreflect.BoolKind:
		return obj{"type": "boolean"}
	case protoreflect.StringKind:
		return obj{"type": "string"}
	case protoreflect.BytesKind:
		return obj{"type": "string", "contentEncoding": "base64"}
	case protoreflect.FloatKind:
		return floating("float")
	case protoreflect.DoubleKind:
		return floating("double")
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return obj{"type": "integer", "format": "int32", "minimum": math.MinInt32, "maximum": math.MaxInt32}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return obj{"type": "integer", "format": "uint32", "minimum": 0, "maximum": uint32(math.MaxUint32)}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return obj{"type": "string", "format": "uint64", "pattern": unsigned}
	default:
		return obj{"type": "string", "format": "int64", "pattern": signed}
	}
}

func floating(format string) obj {
	return obj{"anyOf": []any{obj{"type": "number", "format": format}, obj{"type": "string", "enum": []string{"NaN", "Infinity", "-Infinity"}}}}
}

// enum is the schema of an enum: a name, or the number of a value that has none here.
func (s *schemas) enum(d protoreflect.EnumDescriptor) obj {
	if d.FullName() == "google.protobuf.NullValue" {
		return obj{"type": "null"}
	}
	return s.component(d, func() obj {
		var names []string
		for i := range d.Values().Len() {
			names = append(names, string(d.Values().Get(i).Name()))
		}
		return obj{"anyOf": []any{obj{"type": "string", "enum": names}, scalar(protoreflect.Int32Kind)}}
	})
}

// wellKnown is the schema of a message that has a JSON form of its own; nil: it has none.
func wellKnown(name protoreflect.FullName) obj {
	switch name {
	case "google.protobuf.Any":
		return obj{"type": "object", "properties": obj{"@type": obj{"type": "string"}}, "additionalProperties": true,
			"description": "A message of any type, which @type names, as in type.googleapis.com/google.protobuf.StringValue."}
	case "google.protobuf.Timestamp":
		return obj{"type": "string", "format": "date-time"}
	case "google.protobuf.Duration":
		return obj{"type": "string", "pattern": `^-?[0-9]+(\.[0-9]{1,9})?s$`}
	case "google.protobuf.FieldMask":
		return obj{"type": "string", "description": "Names of fields, separated by commas."}
	case "google.protobuf.Struct":
		return obj{"type": "object", "additionalProperties": true}
	case "google.protobuf.ListValue":
		return obj{"type": "array", "items": obj{}}
	case "google.protobuf.Value":
		return obj{}
	case "google.protobuf.Empty":
		return obj{"type": "object", "additionalProperties": false}
	}
	if k, ok := wrapped[name]; ok {
		return scalar(k)
	}
	return nil
}

// wrapped is the messages that are a scalar in JSON.
var wrapped = map[protoreflect.FullName]protoreflect.Kind{
	"google.protobuf.BoolValue": protoreflect.BoolKind, "google.protobuf.StringValue": protoreflect.StringKind, "google.protobuf.BytesValue": protoreflect.BytesKind,
	"google.protobuf.FloatValue": protoreflect.FloatKind, "google.protobuf.DoubleValue": protoreflect.DoubleKind,
	"google.protobuf.Int32Value": protoreflect.Int32Kind, "google.protobuf.UInt32Value": protoreflect.Uint32Kind,
	"google.protobuf.Int64Value": protoreflect.Int64Kind, "google.protobuf.UInt64Value": protoreflect.Uint64Kind,
}

// fingerprint tells versions of a message or an enum apart: it is of d and of all that d
// is made of.
func fingerprint(d protoreflect.Descriptor) string {
	parts := map[string][]byte{}
	collect(d, parts)
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		fmt.Fprintf(h, "%q %x\n", name, parts[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func collect(d protoreflect.Descriptor, parts map[string][]byte) {
	name := string(d.FullName())
	if _, seen := parts[name]; seen {
		return
	}
	deterministic := proto.MarshalOptions{Deterministic: true}
	switch d := d.(type) {
	case protoreflect.EnumDescriptor:
		parts[name], _ = deterministic.Marshal(protodesc.ToEnumDescriptorProto(d)) // what came marshalled can be
	case protoreflect.MessageDescriptor:
		parts[name], _ = deterministic.Marshal(protodesc.ToDescriptorProto(d))
		for i := range d.Fields().Len() {
			if f := d.Fields().Get(i); f.Message() != nil {
				collect(f.Message(), parts)
			} else if f.Enum() != nil {
				collect(f.Enum(), parts)
			}
		}
	}
}
