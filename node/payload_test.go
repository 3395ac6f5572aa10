package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	goverse_pb "github.com/xiaonanln/goverse/proto"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Echo gives back what it gets, in several types.
type Echo struct{ object.BaseObject }

func (e *Echo) String_(ctx context.Context, req *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	return req, nil
}

func (e *Echo) Turn(ctx context.Context, req *goverse_pb.Turn) (*goverse_pb.Turn, error) {
	return req, nil
}

func (e *Echo) Struct(ctx context.Context, req *structpb.Struct) (*structpb.Struct, error) {
	return req, nil
}

func (e *Echo) Nothing(ctx context.Context, req *goverse_pb.Turn) (*goverse_pb.Turn, error) {
	return nil, nil
}

func (e *Echo) Unsendable(ctx context.Context, req *goverse_pb.Turn) (*goverse_pb.Turn, error) {
	return &goverse_pb.Turn{Type: "\xff"}, nil
}

func (e *Echo) Status(ctx context.Context, req *goverse_pb.Turn) (*goverse_pb.Turn, error) {
	st, err := status.New(codes.FailedPrecondition, "not now").WithDetails(&errdetails.ErrorInfo{Reason: "BUSY"})
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("wrapped: %w", st.Err())
}

func echo(t *testing.T) *world {
	w := start(t)
	w.must(w.RegisterObjectType((*Echo)(nil)))
	return w
}

func (w *world) echo(method string, p object.Payload) (object.Payload, error) {
	return w.Call(bg, object.Call{Ref: object.Ref{Type: "Echo", ID: "e"}, Method: method, Payload: p})
}

func TestPayloadForms(t *testing.T) {
	w := echo(t)
	turn := &goverse_pb.Turn{Type: "T", Id: "i", Epoch: 7}
	packed, err := anypb.New(turn)
	w.must(err)
	for _, c := range []struct {
		name string
		in   object.Payload
		want *goverse_pb.Turn
	}{
		{"message", object.OfMessage(turn), turn},
		{"binary", object.OfBinary(packed), turn},
		{"JSON", object.OfJSON([]byte(`{"type":"T","id":"i","epoch":"7"}`)), turn},
		{"JSON, proto names", object.OfJSON([]byte(` {"type":"T", "id":"i", "epoch":7} `)), turn},
		{"no message", object.Payload{}, &goverse_pb.Turn{}},
		{"nil message", object.OfMessage((*goverse_pb.Turn)(nil)), &goverse_pb.Turn{}},
		{"no binary", object.OfBinary(nil), &goverse_pb.Turn{}},
		{"empty JSON", object.OfJSON(nil), &goverse_pb.Turn{}},
		{"blank JSON", object.OfJSON([]byte(" \n")), &goverse_pb.Turn{}},
		{"empty object", object.OfJSON([]byte("{}")), &goverse_pb.Turn{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := w.echo("Turn", c.in)
			if err != nil {
				t.Fatal(err)
			}
			if p.Form != c.in.Form {
				t.Fatalf("asked in form %v, answered in %v", c.in.Form, p.Form)
			}
			var got proto.Message
			switch p.Form {
			case object.FormMessage:
				got = p.Message
			case object.FormBinary:
				got, err = p.Binary.UnmarshalNew()
			default:
				var loose map[string]any
				if err := json.Unmarshal(p.JSON, &loose); err != nil {
					t.Fatal(err)
				}
				if strings.ContainsAny(string(p.JSON), " \n") {
					t.Errorf("not compact: %s", p.JSON)
				}
				var m proto.Message
				m, err = decodeRequest(w.method("Turn"), p)
				got = m
			}
			if err != nil || !proto.Equal(got, c.want) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func (w *world) method(name string) *object.Method {
	typ, _ := w.types.Lookup("Echo")
	return typ.Methods[name]
}

func TestBadPayloads(t *testing.T) {
	w := echo(t)
	wrong, err := anypb.New(durationpb.New(1))
	w.must(err)
	for _, c := range []struct {
		name string
		in   object.Payload
		says string
	}{
		{"another message", object.OfMessage(durationpb.New(1)), "takes a goverse.Turn, not a google.protobuf.Duration"},
		{"another binary", object.OfBinary(wrong), "takes a goverse.Turn, not a google.protobuf.Duration"},
		{"an Any without a type", object.OfBinary(&anypb.Any{}), "takes a goverse.Turn"},
		{"damaged binary", object.OfBinary(&anypb.Any{TypeUrl: "x/goverse.Turn", Value: []byte{0xff}}), "not a valid goverse.Turn"},
		{"unknown JSON field", object.OfJSON([]byte(`{"nope":1}`)), "nope"},
		{"wrong JSON type", object.OfJSON([]byte(`{"type":1}`)), "not a valid goverse.Turn in JSON"},
		{"invalid JSON", object.OfJSON([]byte(`{"type":`)), "not a valid goverse.Turn in JSON"},
		{"a JSON list", object.OfJSON([]byte(`[]`)), "not a valid goverse.Turn in JSON"},
		{"JSON null", object.OfJSON([]byte(`null`)), "not a valid goverse.Turn in JSON"},
		{"two values", object.OfJSON([]byte(`{}{}`)), "not a valid goverse.Turn in JSON"},
		{"invalid UTF-8", object.OfJSON([]byte("{\"type\":\"\xff\"}")), "not a valid goverse.Turn in JSON"},
		{"deep JSON", object.OfJSON([]byte(strings.Repeat(`{"a":`, 20000))), "not a valid goverse.Turn in JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.echo("Turn", c.in)
			isFault(t, err, fault.Invalid, fault.NotExecuted)
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "CallObject Echo/e.Turn") {
				t.Error(err)
			}
		})
	}
	_, err = w.echo("Struct", object.OfJSON([]byte(strings.Repeat(`{"a":`, 20000)+"1"+strings.Repeat("}", 20000))))
	isFault(t, err, fault.Invalid, fault.NotExecuted)
	if w.NumObjects() != 0 {
		t.Error("a bad request activated its object")
	}
}

func TestRepliesThatAreNone(t *testing.T) {
	w := echo(t)
	_, err := w.echo("Nothing", object.Payload{})
	isFault(t, err, fault.Failed, fault.Executed)
	if !strings.Contains(err.Error(), "neither a reply nor an error") {
		t.Error(err)
	}
	for _, in := range []object.Payload{object.OfJSON(nil), object.OfBinary(nil)} {
		_, err := w.echo("Unsendable", in)
		isFault(t, err, fault.Failed, fault.Executed)
	}
}

func TestWellKnownTypesInJSON(t *testing.T) {
	w := echo(t)
	for _, c := range []struct{ method, in, want string }{
		{"String_", `"a string"`, `"a string"`},
		{"Struct", `{"a":[1,null,{"b":"c"}]}`, `{"a":[1,null,{"b":"c"}]}`},
	} {
		p, err := w.echo(c.method, object.OfJSON([]byte(c.in)))
		if err != nil || string(p.JSON) != c.want {
			t.Errorf("%s: %s, %v", c.method, p.JSON, err)
		}
	}
}

func TestUserStatusPassesThrough(t *testing.T) {
	w := echo(t)
	_, err := w.echo("Status", object.Payload{})
	isFault(t, err, fault.Failed, fault.Executed)
	for _, err := range []error{err, fault.FromWire(fault.ToWire(err))} {
		st := status.Convert(err)
		if st.Code() != codes.FailedPrecondition || len(st.Details()) != 1 {
			t.Errorf("%v: code %v, details %v", err, st.Code(), st.Details())
		}
	}
}

// What a nested call failed with is no statement about the outer one, which ran.
func TestNestedFaultIsTheOutersFailure(t *testing.T) {
	w := start(t)
	_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
		_, err := w.call(ctx, "Nobody/y.Change")
		isFault(t, err, fault.UnknownType, fault.NotExecuted)
		return fmt.Errorf("asking nobody: %w", err)
	})
	isFault(t, err, fault.Failed, fault.Executed)
	if !errors.Is(err, &fault.Error{Kind: fault.UnknownType}) {
		t.Error("the cause is lost:", err)
	}
	isFault(t, fault.FromWire(fault.ToWire(err)), fault.Failed, fault.Executed)
}

func TestStateCodec(t *testing.T) {
	for _, m := range []proto.Message{
		&goverse_pb.Turn{}, &goverse_pb.Turn{Type: "T", Epoch: 1 << 60}, wrapperspb.Int64(7), durationpb.New(5),
		&structpb.Struct{}, &structpb.Struct{Fields: map[string]*structpb.Value{"@type": structpb.NewStringValue("x")}},
		&goverse_pb.CallRequest{Payload: &goverse_pb.Payload{Form: &goverse_pb.Payload_Json{Json: []byte("{}")}}},
	} {
		data, err := encodeState(m, 0)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(data) || !strings.Contains(string(data), `"@type":"type.googleapis.com/`+string(m.ProtoReflect().Descriptor().FullName())+`"`) {
			t.Errorf("%T is stored as %s", m, data)
		}
		got, err := decodeState(data)
		if err != nil || !proto.Equal(got, m) {
			t.Errorf("%s came back as %v, %v", data, got, err)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	for _, s := range []string{
		`{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"5"}`, `{"@type":"type.googleapis.com/goverse.Turn","type":"x"}`,
		`{}`, `null`, `{"@type":"x"}`, `{"@type":"type.googleapis.com/google.protobuf.Any","value":{"@type":"type.googleapis.com/google.protobuf.Empty","value":{}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeState(data)
		if err != nil {
			return
		}
		again, err := encodeState(m, 0)
		if err != nil {
			return // too large
		}
		back, err := decodeState(again)
		if err != nil || !proto.Equal(back, m) {
			t.Errorf("%s became %s: %v", data, again, err)
		}
	})
}

func FuzzDecodeRequest(f *testing.F) {
	types := object.NewTypes()
	if err := types.Register((*Echo)(nil)); err != nil {
		f.Fatal(err)
	}
	typ, _ := types.Lookup("Echo")
	methods := typ.MethodNames()
	for i, s := range []string{`{"type":"T"}`, `"x"`, `{"a":[1,2]}`, ``, ` `, `{`, `null`, `{"epoch":"18446744073709551615"}`, `{"epoch":1e400}`} {
		f.Add(i, []byte(s))
	}
	f.Fuzz(func(t *testing.T, i int, data []byte) {
		method := typ.Methods[methods[uint(i)%uint(len(methods))]]
		m, err := decodeRequest(method, object.OfJSON(data))
		if err != nil {
			isFault(t, err, fault.Invalid, fault.NotExecuted)
			return
		}
		if m.ProtoReflect().Descriptor() != method.Request.ProtoReflect().Descriptor() {
			t.Fatalf("a %T for %s", m, method.Name)
		}
		p, err := encodeReply(m, object.FormJSON)
		if err != nil {
			return // a number that JSON does not have, in a Struct
		}
		back, err := decodeRequest(method, p)
		if err != nil || !proto.Equal(back, m) {
			t.Errorf("%s became %s: %v", data, p.JSON, err)
		}
	})
}
