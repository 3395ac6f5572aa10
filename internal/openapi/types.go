package openapi

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/xiaonanln/goverse/object"
)

// Types is the types of a cluster with their messages, as its nodes describe them.
// Immutable.
type Types struct {
	Digest string // of all that is described
	Silent int    // nodes that did not say what they have

	list  []Type
	files []*protoregistry.Files // the newest first
}

// Type is one object type.
type Type struct {
	Name       string
	MustCreate bool
	Methods    []Method // in the order of their names
}

// Method is one callable method.
type Method struct {
	Name              string
	ReadOnly          bool
	Request, Response protoreflect.MessageDescriptor
}

// NewTypes reads catalogs, the newest first: where nodes differ about a type, as they do
// while a new version is rolled out, the first that has it is right. silent is how many
// nodes have none there.
func NewTypes(catalogs []object.Catalog, silent int) (*Types, error) {
	ts := &Types{Silent: silent}
	seen := map[string]bool{}
	h := sha256.New()
	for _, c := range catalogs {
		fmt.Fprintln(h, c.Digest)
		files, err := filesOf(c.Files)
		if err != nil {
			return nil, fmt.Errorf("catalog %s: %w", c.Digest, err)
		}
		ts.files = append(ts.files, files)
		for _, d := range c.Types {
			if seen[d.Name] {
				continue
			}
			seen[d.Name] = true
			t, err := typeOf(d, files)
			if err != nil {
				return nil, fmt.Errorf("catalog %s: type %s: %w", c.Digest, d.Name, err)
			}
			ts.list = append(ts.list, t)
		}
	}
	ts.Digest = hex.EncodeToString(h.Sum(nil)[:16])
	return ts, nil
}

func filesOf(set []byte) (*protoregistry.Files, error) {
	var m descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(set, &m); err != nil {
		return nil, err
	}
	return protodesc.NewFiles(&m)
}

func typeOf(c object.CatalogType, files *protoregistry.Files) (Type, error) {
	t := Type{Name: c.Name, MustCreate: c.MustCreate}
	for _, m := range c.Methods {
		request, err := messageOf(files, m.Request)
		if err != nil {
			return t, fmt.Errorf("method %s: %w", m.Name, err)
		}
		response, err := messageOf(files, m.Response)
		if err != nil {
			return t, fmt.Errorf("method %s: %w", m.Name, err)
		}
		t.Methods = append(t.Methods, Method{m.Name, m.ReadOnly, request, response})
	}
	return t, nil
}

func messageOf(files *protoregistry.Files, name string) (protoreflect.MessageDescriptor, error) {
	d, err := files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil, err
	}
	m, ok := d.(protoreflect.MessageDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no message", name)
	}
	return m, nil
}

// FindMessageByName implements protoregistry.MessageTypeResolver: Types can be the resolver
// of protojson, for messages that this program does not have.
func (ts *Types) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	for _, files := range ts.files {
		if m, err := messageOf(files, string(name)); err == nil {
			return dynamicpb.NewMessageType(m), nil
		}
	}
	return protoregistry.GlobalTypes.FindMessageByName(name)
}

// FindMessageByURL implements protoregistry.MessageTypeResolver.
func (ts *Types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	name := url
	for i := len(url) - 1; i >= 0; i-- {
		if url[i] == '/' {
			name = url[i+1:]
			break
		}
	}
	return ts.FindMessageByName(protoreflect.FullName(name))
}

// FindExtensionByName implements protoregistry.ExtensionTypeResolver: it knows none.
func (*Types) FindExtensionByName(protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}

// FindExtensionByNumber implements protoregistry.ExtensionTypeResolver: it knows none.
func (*Types) FindExtensionByNumber(protoreflect.FullName, protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}
