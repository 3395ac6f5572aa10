package object

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// SupportPackageIsVersion1 is named by generated code, which so compiles only with a
// Goverse that it fits. Where it is undefined, generate the code anew, with the
// protoc-gen-go-goverse of the Goverse version in go.mod.
const SupportPackageIsVersion1 = true

// Service is the methods of a type as code that is generated from a protobuf service
// knows them: they are called without reflection, and a type that has a Service has no
// other callable method. Nobody changes it.
type Service struct {
	Name    string // the service's full protobuf name
	Type    string // the type's name, unless WithName says another
	Methods []ServiceMethod
	Options []TypeOption // which the .proto file states

	// Implements tells whether o has the methods.
	Implements func(o Object) bool
}

// ServiceMethod is one of them.
type ServiceMethod struct {
	Name     string
	ReadOnly bool
	Internal bool                 // no client may call it
	Request  func() proto.Message // makes a new one

	// Invoke calls the method of an o that implements the service, with a req that
	// Request could have made. An absent reply is nil, not a nil pointer in an interface.
	Invoke func(ctx context.Context, o Object, req proto.Message) (proto.Message, error)
}

// TypeOption registers a type with the service. What the .proto file states yields to
// opts.
func (s *Service) TypeOption(opts ...TypeOption) TypeOption {
	return func(o *Options) {
		o.Service = s
		for _, opt := range slices.Concat(s.Options, opts) {
			opt(o)
		}
	}
}

// responseOf is a nil message of what a method of the Go type returns: Implements has
// said that it is there. A method that the type does not have by that name, or in
// another form, says nothing: any message.
func (t *Type) responseOf(name string) proto.Message {
	m, ok := reflect.PointerTo(t.elem).MethodByName(name)
	if !ok || !callable(m.Type) {
		return (*anypb.Any)(nil)
	}
	return reflect.Zero(m.Type.Out(0)).Interface().(proto.Message)
}

// addServiceMethods makes the service's methods those of the type.
func (t *Type) addServiceMethods() error {
	s := t.Service
	if !s.Implements(t.New()) {
		return fmt.Errorf("*%v does not have the methods of service %s", t.elem, s.Name)
	}
	for i := range s.Methods {
		m := &s.Methods[i]
		switch _, inBase := baseType.MethodByName(m.Name); {
		case inBase:
			return fmt.Errorf("service %s: every object has a method %s of its own", s.Name, m.Name)
		case t.Methods[m.Name] != nil:
			return fmt.Errorf("service %s: two methods are called %s", s.Name, m.Name)
		}
		if err := ValidName(m.Name); err != nil {
			return fmt.Errorf("service %s: %w", s.Name, err)
		}
		t.Methods[m.Name] = &Method{
			Name:     m.Name,
			ReadOnly: m.ReadOnly || slices.Contains(t.ReadOnly, m.Name),
			Internal: m.Internal || slices.Contains(t.Internal, m.Name),
			Request:  m.Request().ProtoReflect().Type().Zero().Interface(),
			Response: t.responseOf(m.Name),
			invoke:   m.Invoke,
		}
	}
	for _, name := range t.ReadOnly {
		if t.Methods[name] == nil {
			return fmt.Errorf("read-only method %s is not in service %s", name, s.Name)
		}
	}
	for _, name := range t.Internal {
		if t.Methods[name] == nil {
			return fmt.Errorf("internal method %s is not in service %s", name, s.Name)
		}
	}
	if len(t.Methods) == 0 {
		return errors.New("service " + s.Name + " has no method")
	}
	return nil
}
