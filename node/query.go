package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// maxQueryDepth bounds how deep a query parameter names a field.
const maxQueryDepth = 32

// decodeAsked is decodeRequest, also of what came in a query: only a read-only method can
// be asked for so.
func decodeAsked(m *object.Method, p object.Payload, readOnly bool) (_ proto.Message, err error) {
	if readOnly && p.Form == object.FormJSON {
		if p.JSON, err = fromQuery(m.Request.ProtoReflect().Descriptor(), p.JSON); err != nil {
			return nil, err
		}
	}
	return decodeRequest(m, p)
}

// fromQuery makes a request's JSON of what a gate made of query parameters: an object of
// strings, and of lists of strings where a name came several times. The gate has no
// messages; here a.b is the field b of the message a, "true" a boolean and one value a
// list, where the message says so. A scalar request is the parameter value. JSON that no
// query makes is returned as it is.
func fromQuery(d protoreflect.MessageDescriptor, data []byte) ([]byte, error) {
	values, ok := queryValues(data)
	if !ok || len(values) == 0 {
		return data, nil
	}
	if d.ParentFile().Package() == "google.protobuf" {
		return scalarQuery(d, values, data)
	}
	out := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		path := strings.Split(name, ".")
		if len(path) > maxQueryDepth {
			return nil, fault.New(fault.Invalid, "the query parameter %q names a field %d deep; at most %d are possible, use POST", name, len(path), maxQueryDepth)
		}
		if err := place(d, out, path, values[name]); err != nil {
			return nil, fault.New(fault.Invalid, "the query parameter %s %w", strconv.Quote(name), err)
		}
	}
	return json.Marshal(out)
}

// queryValues reads what a gate makes of a query.
func queryValues(data []byte) (values map[string][]string, ok bool) {
	var raw map[string]any
	if json.Unmarshal(data, &raw) != nil {
		return nil, false
	}
	values = map[string][]string{}
	for name, v := range raw {
		list, isList := v.([]any)
		if !isList {
			list = []any{v}
		}
		for _, one := range list {
			text, isText := one.(string)
			if !isText {
				return nil, false
			}
			values[name] = append(values[name], text)
		}
	}
	return values, true
}

// scalarQuery is the JSON of a request that is a scalar: the parameter value. Messages
// that take any JSON get what there is.
func scalarQuery(d protoreflect.MessageDescriptor, values map[string][]string, data []byte) ([]byte, error) {
	own := values["value"]
	switch {
	case !isScalar(d):
		return data, nil
	case len(own) != 1 || len(values) != 1:
		return nil, fault.New(fault.Invalid, "the request is a %s: give it in one query parameter, as ?value=", d.FullName())
	}
	v, err := queryScalar(d, own[0])
	if err != nil {
		return nil, fault.New(fault.Invalid, "the query parameter \"value\" %w", err)
	}
	return json.Marshal(v)
}

// place puts values where path leads to in a message of d.
func place(d protoreflect.MessageDescriptor, into map[string]any, path []string, values []string) error {
	f := fieldCalled(d, path[0])
	if f == nil {
		return fmt.Errorf("is not a field of %s, which has: %s", d.FullName(), strings.Join(fieldNames(d), ", "))
	}
	name := f.JSONName()
	if len(path) == 1 {
		if _, twice := into[name]; twice {
			return errors.New("is there twice, under two names or with fields of its own")
		}
		v, err := fieldValue(f, values)
		into[name] = v
		return err
	}
	inner, _ := into[name].(map[string]any)
	if inner == nil {
		if into[name] != nil {
			return errors.New("is there twice, whole and as a field")
		}
		inner = map[string]any{}
		into[name] = inner
	}
	switch {
	case f.IsMap():
		v, err := oneValue(f.MapValue(), values)
		inner[strings.Join(path[1:], ".")] = v
		return err
	case f.IsList() || f.Message() == nil || f.Message().ParentFile().Package() == "google.protobuf":
		return errors.New("looks into a field that has none of its own; use POST")
	}
	return place(f.Message(), inner, path[1:], values)
}

func fieldCalled(d protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if f := d.Fields().ByJSONName(name); f != nil {
		return f
	}
	return d.Fields().ByTextName(name)
}

func fieldNames(d protoreflect.MessageDescriptor) (names []string) {
	for i := range d.Fields().Len() {
		names = append(names, d.Fields().Get(i).JSONName())
	}
	return names
}

func fieldValue(f protoreflect.FieldDescriptor, values []string) (any, error) {
	switch {
	case f.IsMap():
		return nil, errors.New("is a map: give its entries, as name.key=value")
	case f.IsList():
		list := make([]any, len(values))
		for i, text := range values {
			v, err := oneValue(f, []string{text})
			if err != nil {
				return nil, err
			}
			list[i] = v
		}
		return list, nil
	}
	return oneValue(f, values)
}

func oneValue(f protoreflect.FieldDescriptor, values []string) (any, error) {
	if len(values) != 1 {
		return nil, fmt.Errorf("is there %d times, and takes one value", len(values))
	}
	switch m := f.Message(); {
	case m != nil && isScalar(m):
		return queryScalar(m, values[0])
	case m != nil:
		return nil, fmt.Errorf("is a %s: give its fields, as name.field=value, or use POST", m.FullName())
	case f.Kind() == protoreflect.BoolKind:
		return queryBool(values[0])
	case f.Kind() == protoreflect.EnumKind:
		if n, err := strconv.ParseInt(values[0], 10, 32); err == nil {
			return n, nil
		}
	}
	return values[0], nil // protojson reads numbers and bytes from strings, too
}

// isScalar tells the messages that one string can say.
func isScalar(d protoreflect.MessageDescriptor) bool {
	switch d.FullName() {
	case "google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask":
		return true
	}
	return d.ParentFile().Path() == "google/protobuf/wrappers.proto"
}

func queryScalar(d protoreflect.MessageDescriptor, text string) (any, error) {
	if d.FullName() == "google.protobuf.BoolValue" {
		return queryBool(text)
	}
	return text, nil
}

func queryBool(text string) (any, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return nil, fmt.Errorf("is %q; give true or false", text)
}
