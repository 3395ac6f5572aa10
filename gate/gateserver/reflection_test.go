package gateserver

import (
	"context"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	reflection_pb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// A client that knows nothing of a gate, as grpcurl, lists its services, reads what they
// take, and calls one.
func TestReflectionClient(t *testing.T) {
	cc := dialConn(t, start(t, newCluster(echo)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := reflection_pb.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	services := ask(t, stream, &reflection_pb.ServerReflectionRequest{MessageRequest: &reflection_pb.ServerReflectionRequest_ListServices{}}).GetListServicesResponse().GetService()
	var names []string
	for _, s := range services {
		names = append(names, s.Name)
	}
	for _, want := range []string{"gate.GateService", "grpc.health.v1.Health"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not listed: %q", want, names)
		}
	}
	method := describedMethod(t, stream, "gate.GateService", "CallObject")
	request, response := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
	text := `{"type":"Counter","id":"x","method":"Add","request":{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"hi"}}`
	if err := protojson.Unmarshal([]byte(text), request); err != nil {
		t.Fatal(err)
	}
	if err := cc.Invoke(ctx, "/gate.GateService/CallObject", request, response); err != nil {
		t.Fatal(err)
	}
	answer, err := protojson.Marshal(response.Get(method.Output().Fields().ByName("response")).Message().Interface())
	if err != nil || strings.ReplaceAll(string(answer), " ", "") != `{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"hi"}` {
		t.Errorf("%s, %v", answer, err)
	}
}

type reflectionStream = grpc.BidiStreamingClient[reflection_pb.ServerReflectionRequest, reflection_pb.ServerReflectionResponse]

func ask(t *testing.T, stream reflectionStream, r *reflection_pb.ServerReflectionRequest) *reflection_pb.ServerReflectionResponse {
	t.Helper()
	if err := stream.Send(r); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil || answer.GetErrorResponse() != nil {
		t.Fatal(answer, err)
	}
	return answer
}

// describedMethod asks for a method's file, and for what that imports.
func describedMethod(t *testing.T, stream reflectionStream, service, method string) protoreflect.MethodDescriptor {
	t.Helper()
	var set descriptorpb.FileDescriptorSet
	seen := map[string]bool{}
	var add func(*reflection_pb.ServerReflectionRequest)
	add = func(r *reflection_pb.ServerReflectionRequest) {
		for _, b := range ask(t, stream, r).GetFileDescriptorResponse().GetFileDescriptorProto() {
			f := new(descriptorpb.FileDescriptorProto)
			if err := proto.Unmarshal(b, f); err != nil {
				t.Fatal(err)
			}
			if seen[f.GetName()] {
				continue
			}
			seen[f.GetName()] = true
			set.File = append(set.File, f)
			for _, path := range f.Dependency {
				if !seen[path] {
					add(&reflection_pb.ServerReflectionRequest{MessageRequest: &reflection_pb.ServerReflectionRequest_FileByFilename{FileByFilename: path}})
				}
			}
		}
	}
	add(&reflection_pb.ServerReflectionRequest{MessageRequest: &reflection_pb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service}})
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	d, err := files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		t.Fatal(err)
	}
	return d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method))
}
