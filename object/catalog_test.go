package object_test

import (
	"reflect"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/xiaonanln/goverse/object"
)

func catalogOf(t *testing.T, ts *object.Types) object.Catalog {
	t.Helper()
	c, err := ts.Catalog()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCatalog(t *testing.T) {
	ts := object.NewTypes()
	empty := catalogOf(t, ts)
	if len(empty.Types) != 0 || empty.Digest == "" {
		t.Errorf("of no types: %+v", empty)
	}
	for _, err := range []error{
		ts.Register((*Room)(nil), object.MustCreate(), object.ReadOnlyMethods("History")),
		ts.Register((*Chatty)(nil), hall().TypeOption()),
		ts.Register((*Room)(nil), object.WithName("Safe"), object.InternalMethods("Join")), // which no client sees
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c := catalogOf(t, ts)
	const req, resp = "google.protobuf.StringValue", "google.protobuf.Int64Value"
	methods := []object.CatalogMethod{{Name: "History", ReadOnly: true, Request: req, Response: resp}, {Name: "Join", Request: req, Response: resp}}
	want := []object.CatalogType{{Name: "Hall", Methods: methods}, {Name: "Room", MustCreate: true, Methods: methods},
		{Name: "Safe", Methods: []object.CatalogMethod{{Name: "History", Request: req, Response: resp}}}}
	if !reflect.DeepEqual(c.Types, want) {
		t.Errorf("%+v", c.Types)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(c.Files, &set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatalf("the files are not all that they need: %v", err)
	}
	for _, name := range []protoreflect.FullName{req, resp} {
		if _, err := files.FindDescriptorByName(name); err != nil {
			t.Error(err)
		}
	}
	if again := catalogOf(t, ts); !reflect.DeepEqual(again, c) || c.Digest == empty.Digest || c.Since.Before(empty.Since) {
		t.Errorf("%v after %v, of %v", again.Digest, c.Digest, again.Since)
	}
	if known := c.Unless(c.Digest); known.Types != nil || known.Files != nil || known.Digest != c.Digest || known.Since != c.Since {
		t.Errorf("to one who knows: %+v", known)
	}
	if other := c.Unless(empty.Digest); !reflect.DeepEqual(other, c) {
		t.Errorf("to one who knows another: %+v", other)
	}
}

// What is told is a digest of: the names, the flags and the messages.
func TestCatalogDigest(t *testing.T) {
	seen := map[string]int{}
	for i, opts := range [][]object.TypeOption{
		nil, {object.MustCreate()}, {object.ReadOnlyMethods("Join")}, {object.WithName("Hall")}, {object.WithMaxQueue(9)},
	} {
		ts := object.NewTypes()
		if err := ts.Register((*Room)(nil), opts...); err != nil {
			t.Fatal(err)
		}
		digest := catalogOf(t, ts).Digest
		if other, ok := seen[digest]; ok && !(i == 4 && other == 0) { // a queue is nothing to a caller
			t.Errorf("%d and %d are alike", i, other)
		}
		seen[digest] = i
	}
	if len(seen) != 4 {
		t.Errorf("%d digests", len(seen))
	}
}

func TestCatalogWhileOthersRegister(t *testing.T) {
	ts := object.NewTypes()
	var all sync.WaitGroup
	for _, name := range []string{"A", "B", "C", "D"} {
		all.Go(func() {
			if err := ts.Register((*Room)(nil), object.WithName(name)); err != nil {
				t.Error(err)
			}
			found := false
			for _, typ := range catalogOf(t, ts).Types {
				found = found || typ.Name == name
			}
			if !found {
				t.Errorf("%s is registered, and not told of", name)
			}
		})
	}
	all.Wait()
}
