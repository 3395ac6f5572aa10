package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/xiaonanln/goverse/object"
	options_pb "github.com/xiaonanln/goverse/proto/goverse"
)

// service is one service that objects serve, checked.
type service struct {
	*protogen.Service
	file    *protogen.File
	options *options_pb.ObjectOptions
}

// Names in the generated code. Those of protoc-gen-go-grpc are others, so that both may
// generate from one file.
func (s *service) object() string  { return s.GoName + "Object" }
func (s *service) newType() string { return "New" + s.GoName + "Type" }
func (s *service) ref() string     { return s.GoName + "Ref" }
func (s *service) newRef() string  { return "New" + s.GoName + "Ref" }
func (s *service) fake() string    { return s.GoName + "Fake" }
func (s *service) table() string   { return "goverse_" + s.GoName }

// typeName is the object type's.
func (s *service) typeName() string {
	if s.options.Type != "" {
		return s.options.Type
	}
	return s.GoName
}

// servicesOf are the services of a file that objects serve. The error is all that is
// wrong with them.
func servicesOf(f *protogen.File, n names) (services []*service, _ error) {
	var errs []error
	for _, plain := range f.Services {
		s := &service{plain, f, proto.GetExtension(plain.Desc.Options(), options_pb.E_Object).(*options_pb.ObjectOptions)}
		if s.options.GetSkip() {
			continue
		}
		if s.options == nil {
			s.options = new(options_pb.ObjectOptions)
		}
		for _, err := range append(s.problems(), n.take(s)) {
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: service %s: %w", f.Desc.Path(), s.Desc.Name(), err))
			}
		}
		services = append(services, s)
	}
	return services, errors.Join(errs...)
}

// problems are all that is wrong with a service.
func (s *service) problems() (errs []error) {
	if len(s.Methods) == 0 {
		errs = append(errs, fmt.Errorf("it has no method, and an object needs one; %s", otherwise))
	}
	named := map[string]*protogen.Method{}
	for _, m := range s.Methods {
		if err := checkMethod(m); err != nil {
			errs = append(errs, fmt.Errorf("method %s: %w", m.Desc.Name(), err))
		}
		if other := named[m.GoName]; other != nil {
			errs = append(errs, fmt.Errorf("methods %s and %s are both %s in Go: give one of them another name", other.Desc.Name(), m.Desc.Name(), m.GoName))
		}
		named[m.GoName] = m
	}
	if err := object.ValidName(s.typeName()); err != nil {
		errs = append(errs, fmt.Errorf("type: %w", err))
	}
	_, wrong := s.typeOptions()
	return append(errs, wrong...)
}

// otherwise is what to do with a service that is no object's.
const otherwise = `if it is not for objects, import "goverse/options.proto" and state: option (goverse.object) = {skip: true}`

func checkMethod(m *protogen.Method) error {
	if m.Desc.IsStreamingClient() || m.Desc.IsStreamingServer() {
		return fmt.Errorf("it streams, and a method of an object takes one message and returns one; push to clients instead; %s", otherwise)
	}
	if len(methodOptions(m).ProtoReflect().GetUnknown()) > 0 {
		return errors.New("option (goverse.method) says things that are not known here; upgrade protoc-gen-go-goverse")
	}
	if slices.Contains(reserved, m.GoName) {
		return fmt.Errorf("%s is what every object has already: give the method another name", m.GoName)
	}
	return nil
}

// methodOptions is what the .proto file says of who may call a method; nil if nothing.
func methodOptions(m *protogen.Method) *options_pb.MethodOptions {
	return proto.GetExtension(m.Desc.Options(), options_pb.E_Method).(*options_pb.MethodOptions)
}

// idempotency says what a level means: whether the method leaves the object as it is,
// and whether it may run again where an answer was lost.
var idempotency = map[descriptorpb.MethodOptions_IdempotencyLevel]struct{ readOnly, again bool }{
	descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN: {},
	descriptorpb.MethodOptions_IDEMPOTENT:          {again: true},
	descriptorpb.MethodOptions_NO_SIDE_EFFECTS:     {readOnly: true, again: true},
}

func idempotencyOf(m *protogen.Method) descriptorpb.MethodOptions_IdempotencyLevel {
	return m.Desc.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel()
}

// commented is what the .proto file says of something, below first lines of ours.
func commented(first string, c protogen.Comments, isDeprecated bool) protogen.Comments {
	return deprecation(join(protogen.Comments(" "+first), c), isDeprecated)
}

// deprecation adds the paragraph that Go's tools know.
func deprecation(c protogen.Comments, isDeprecated bool) protogen.Comments {
	if isDeprecated {
		return join(c, " Deprecated: Marked as deprecated in the .proto file.")
	}
	return join(c)
}

// join makes one comment of paragraphs, and drops the spaces that its lines end with.
func join(paragraphs ...protogen.Comments) (all protogen.Comments) {
	for _, c := range paragraphs {
		lines := strings.Split(strings.Trim(string(c), "\n"), "\n")
		for i := range lines {
			lines[i] = strings.TrimRight(lines[i], " \t")
		}
		text := strings.Join(lines, "\n") + "\n"
		switch {
		case text == "\n":
		case all == "":
			all = protogen.Comments(text)
		default:
			all += protogen.Comments("\n" + text)
		}
	}
	return all
}

func (s *service) deprecated() bool {
	return s.Desc.Options().(*descriptorpb.ServiceOptions).GetDeprecated()
}

// comment is what the .proto file says of a method.
func comment(m *protogen.Method) protogen.Comments {
	return deprecation(m.Comments.Leading, m.Desc.Options().(*descriptorpb.MethodOptions).GetDeprecated())
}
