package openapi

import (
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	// What the test's messages are made of.
	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/object"
)

// fileIn reads the descriptor of a file of testdata.
func fileIn(t testing.TB, name string) *descriptorpb.FileDescriptorProto {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".txtpb")
	if err != nil {
		t.Fatal(err)
	}
	f := new(descriptorpb.FileDescriptorProto)
	if err := prototext.Unmarshal(text, f); err != nil {
		t.Fatal(err)
	}
	return f
}

// setOf is the files with what they import, as a catalog has them.
func setOf(t testing.TB, files ...*descriptorpb.FileDescriptorProto) []byte {
	t.Helper()
	var set descriptorpb.FileDescriptorSet
	seen := map[string]bool{}
	var add func(path string)
	add = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		f, err := protoregistry.GlobalFiles.FindFileByPath(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).Path())
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	for _, f := range files {
		for _, path := range f.Dependency {
			add(path)
		}
	}
	for _, path := range []string{"google/protobuf/wrappers.proto", "google/protobuf/empty.proto"} {
		add(path)
	}
	set.File = append(set.File, files...)
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// catalog is that of a node with one type, whose method M takes and returns request.
func catalog(t testing.TB, digest, typ, request string, files ...*descriptorpb.FileDescriptorProto) object.Catalog {
	t.Helper()
	return object.Catalog{Digest: digest, Since: time.Unix(1, 0), Files: setOf(t, files...), Types: []object.CatalogType{
		{Name: typ, Methods: []object.CatalogMethod{{Name: "M", ReadOnly: true, Request: request, Response: request}}},
	}}
}

// everything is a catalog of all that protobuf has.
func everything(t testing.TB) object.Catalog {
	t.Helper()
	c := catalog(t, "all", "All", "test.Everything", fileIn(t, "everything"), fileIn(t, "old"))
	c.Types[0].Methods = append(c.Types[0].Methods, object.CatalogMethod{Name: "Write", Request: "old.Old", Response: "google.protobuf.Empty"})
	c.Types = append(c.Types,
		object.CatalogType{Name: "Counter", MustCreate: true, Methods: []object.CatalogMethod{
			{Name: "Add", Request: "google.protobuf.Int64Value", Response: "google.protobuf.Int64Value"},
			{Name: "Has", ReadOnly: true, Request: "google.protobuf.BoolValue", Response: "google.protobuf.BoolValue"},
		}},
		object.CatalogType{Name: "call"}, // the envelope's word: no path leads to it
		object.CatalogType{Name: "odd/{name}", Methods: []object.CatalogMethod{{Name: "?", Request: "google.protobuf.Empty", Response: "google.protobuf.Empty"}}},
	)
	return c
}

func typesOf(t testing.TB, catalogs ...object.Catalog) *Types {
	t.Helper()
	ts, err := NewTypes(catalogs, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func descriptor(t testing.TB, ts *Types, name protoreflect.FullName) protoreflect.MessageDescriptor {
	t.Helper()
	m, err := ts.FindMessageByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return m.Descriptor()
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
