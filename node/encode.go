package node

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/misfit"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/admit"
)

// MaxStateBytes bounds an object's state, in bytes: of JSON where it is stored, of the
// packed message where it goes along with its shard.
const MaxStateBytes = admit.MaxData

const typeURLPrefix = "type.googleapis.com/"

// decodeRequest makes the method's request from whatever form it came in.
func decodeRequest(m *object.Method, p object.Payload) (proto.Message, error) {
	switch p.Form {
	case object.FormBinary:
		want := nameOf(m.Request)
		req := m.Request.ProtoReflect().New().Interface()
		if p.Binary == nil {
			return req, nil
		}
		if got := p.Binary.MessageName(); got != want {
			return nil, wrongRequest(want, got)
		}
		if err := proto.Unmarshal(p.Binary.Value, req); err != nil {
			return nil, fault.New(fault.Invalid, "the request is not a valid %s: %w", want, err)
		}
		return req, nil
	case object.FormJSON:
		req := m.Request.ProtoReflect().New().Interface()
		if len(bytes.TrimSpace(p.JSON)) == 0 {
			return req, nil
		}
		if err := misfit.Unmarshal(p.JSON, req); err != nil {
			return nil, fault.New(fault.Invalid, "the request is not a valid %s in JSON: %w", nameOf(m.Request), err)
		}
		return req, nil
	default:
		return decodeMessage(m, p.Message)
	}
}

func decodeMessage(m *object.Method, msg proto.Message) (proto.Message, error) {
	if msg == nil {
		return m.Request.ProtoReflect().New().Interface(), nil
	}
	if reflect.TypeOf(msg) == reflect.TypeOf(m.Request) {
		if reflect.ValueOf(msg).IsNil() {
			return m.Request.ProtoReflect().New().Interface(), nil
		}
		return msg, nil
	}
	return nil, wrongRequest(nameOf(m.Request), nameOf(msg))
}

func nameOf(m proto.Message) protoreflect.FullName { return m.ProtoReflect().Descriptor().FullName() }

func wrongRequest(want, got protoreflect.FullName) error {
	return fault.New(fault.Invalid, "the method takes a %s, not a %s", want, got)
}

// encodeReply brings a reply into the form that the request came in.
func encodeReply(reply proto.Message, form object.Form) (object.Payload, error) {
	switch form {
	case object.FormBinary:
		a, err := anypb.New(reply)
		if err != nil {
			return object.Payload{}, unsendable(err)
		}
		return object.OfBinary(a), nil
	case object.FormJSON:
		b, err := marshalJSON(reply)
		if err != nil {
			return object.Payload{}, unsendable(err)
		}
		return object.OfJSON(b), nil
	default:
		return object.OfMessage(reply), nil
	}
}

func unsendable(err error) error {
	return fault.New(fault.Failed, "the method ran, but its reply cannot be sent: %w", err)
}

// marshalJSON is protojson without its deliberate random spaces.
func marshalJSON(m proto.Message) ([]byte, error) {
	b, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// encodeState is a state as it is stored: protojson with the message's "@type", and
// with the type's version if it has one. Its limits are for object/admit to say.
func encodeState(state proto.Message, version int) ([]byte, error) {
	data, err := marshalState(state)
	if err != nil {
		return nil, err
	}
	return withVersion(data, string(state.ProtoReflect().Descriptor().FullName()), version), nil
}

func marshalState(state proto.Message) ([]byte, error) {
	name := string(state.ProtoReflect().Descriptor().FullName())
	if strings.HasPrefix(name, "google.protobuf.") { // some have a JSON form of their own
		a, err := anypb.New(state)
		if err != nil {
			return nil, err
		}
		return marshalJSON(a)
	}
	body, err := protojson.Marshal(state)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Grow(len(body) + len(name) + 40)
	out.WriteString(`{"@type":"` + typeURLPrefix + name + `"`)
	if len(body) > 2 { // not {}
		out.WriteByte(',')
	}
	out.Write(body[1:])
	return out.Bytes(), nil
}

// decodeState is the message that encodeState stored. Its type must be linked into
// this program.
func decodeState(data []byte) (proto.Message, error) {
	var a anypb.Any
	if err := misfit.UnmarshalAny(data, &a); err != nil {
		return nil, err
	}
	return a.UnmarshalNew()
}
