package object_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/object"
)

// joiner is what generated code asks of a type that implements its service.
type joiner interface {
	object.Object
	Join(context.Context, *in) (*out, error)
	History(context.Context, *in) (*out, error)
}

// hall is the service of Room, as it would be generated.
func hall(opts ...object.TypeOption) *object.Service {
	return &object.Service{
		Name: "test.Hall", Type: "Hall", Options: opts,
		Implements: func(o object.Object) bool { _, ok := o.(joiner); return ok },
		Methods:    []object.ServiceMethod{method("Join", false, joiner.Join), method("History", true, joiner.History)},
	}
}

func method(name string, readOnly bool, f func(joiner, context.Context, *in) (*out, error)) object.ServiceMethod {
	return object.ServiceMethod{
		Name: name, ReadOnly: readOnly,
		Request: func() proto.Message { return new(in) },
		Invoke: func(ctx context.Context, o object.Object, req proto.Message) (proto.Message, error) {
			reply, err := f(o.(joiner), ctx, req.(*in))
			if reply == nil {
				return nil, err
			}
			return reply, err
		},
	}
}

// Chatty has more methods than its service.
type Chatty struct{ Room }

func (c *Chatty) Whisper(context.Context, *in) (*out, error) { return nil, nil }

func TestRegisterService(t *testing.T) {
	s := hall(object.WithMode(object.Concurrent), object.WithMaxQueue(7))
	ts := object.NewTypes()
	for range 2 {
		if err := ts.Register((*Chatty)(nil), s.TypeOption(object.WithMaxQueue(9), object.ReadOnlyMethods("Join"))); err != nil {
			t.Fatal(err)
		}
	}
	typ, ok := ts.Lookup("Hall")
	if !ok || typ.Mode != object.Concurrent || typ.MaxQueue != 9 || typ.Service != s {
		t.Fatalf("%+v", typ)
	}
	if got := strings.Join(typ.MethodNames(), " "); got != "History Join" {
		t.Error("methods:", got)
	}
	join := typ.Methods["Join"]
	if !join.ReadOnly || !typ.Methods["History"].ReadOnly {
		t.Error("read-only is wrong")
	}
	if zero, ok := join.Request.(*in); !ok || zero != nil {
		t.Errorf("the request is %#v", join.Request)
	}
	if reply, err := join.Invoke(t.Context(), typ.New(), &in{}); err != nil || !proto.Equal(reply, wrapperspb.Int64(1)) {
		t.Error(reply, err)
	}
	if reply, err := typ.Methods["History"].Invoke(t.Context(), typ.New(), &in{}); err != nil || reply != nil {
		t.Errorf("a nil reply is %#v, %v", reply, err)
	}
	for _, conflict := range []object.TypeOption{
		s.TypeOption(), hall(s.Options...).TypeOption(object.WithMaxQueue(9), object.ReadOnlyMethods("Join")), object.WithName("Hall"),
	} {
		if err := ts.Register((*Chatty)(nil), conflict); err == nil || !strings.Contains(err.Error(), "already registered") {
			t.Error("a conflicting registration:", err)
		}
	}
	if err := ts.Register((*Room)(nil), s.TypeOption(object.WithName("Room"))); err != nil {
		t.Error("another name:", err)
	}
}

func TestRegisterServiceErrors(t *testing.T) {
	for _, c := range []struct {
		obj  object.Object
		edit func(s *object.Service)
		opt  object.TypeOption
		says string
	}{
		{(*Almost)(nil), nil, nil, "*object_test.Almost does not have the methods of service test.Hall"},
		{(*Room)(nil), func(s *object.Service) { s.Methods[1].Name = "Join" }, nil, "two methods are called Join"},
		{(*Room)(nil), func(s *object.Service) { s.Methods[1].Name = "ToData" }, nil, "every object has a method ToData"},
		{(*Room)(nil), func(s *object.Service) { s.Methods[1].Name = "" }, nil, "the name is empty"},
		{(*Room)(nil), func(s *object.Service) { s.Methods = nil }, nil, "test.Hall has no method"},
		{(*Chatty)(nil), nil, object.ReadOnlyMethods("Whisper"), "read-only method Whisper is not in service test.Hall"},
		{(*Room)(nil), nil, object.WithName("\xff"), "UTF-8"},
		{nil, nil, nil, "typed nil"},
	} {
		s := hall()
		if c.edit != nil {
			c.edit(s)
		}
		var opts []object.TypeOption
		if c.opt != nil {
			opts = append(opts, c.opt)
		}
		if err := object.NewTypes().Register(c.obj, s.TypeOption(opts...)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%T: %v, want it to say %q", c.obj, err, c.says)
		}
	}
}
