package object

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Catalog is what types a node has, as a process may know them that has none of their
// messages. Nobody changes it.
type Catalog struct {
	Digest string        // of Types and Files
	Since  time.Time     // when the node's types became these, by its own clock
	Types  []CatalogType // in the order of their names
	Files  []byte        // a marshalled FileDescriptorSet: each file after those that it imports
}

// CatalogType is one type of a catalog.
type CatalogType struct {
	Name       string
	MustCreate bool
	Methods    []CatalogMethod // that clients may call, in the order of their names
}

// CatalogMethod is one callable method. Its messages go by their full protobuf names.
type CatalogMethod struct {
	Name              string
	ReadOnly          bool
	Request, Response string
}

// Cataloger tells of its types.
type Cataloger interface {
	// Catalog is what types there are now. To one who has the catalog of that digest
	// already, known says so: then Types and Files are left out.
	Catalog(ctx context.Context, known string) (Catalog, error)
}

// Unless leaves out what the asker knows.
func (c Catalog) Unless(known string) Catalog {
	if c.Digest == known {
		c.Types, c.Files = nil, nil
	}
	return c
}

// Catalog describes the registered types. It is made once for each set of them.
func (ts *Types) Catalog() (Catalog, error) {
	all := ts.types.Load()
	if made := ts.catalog.Load(); made != nil && made.of == all {
		return made.Catalog, nil
	}
	c := Catalog{Since: time.Unix(0, ts.changed.Load())}
	files := fileSet{seen: map[string]bool{}}
	for _, name := range ts.Names() {
		t := (*all)[name]
		if t == nil {
			continue // registered since: it is in the next one
		}
		c.Types = append(c.Types, t.catalog(&files))
	}
	var err error
	if c.Files, err = (proto.MarshalOptions{Deterministic: true}).Marshal(&files.set); err != nil {
		return Catalog{}, fmt.Errorf("the registered types cannot be described: %w", err)
	}
	c.Digest = c.digest()
	ts.catalog.Store(&madeCatalog{c, all})
	return c, nil
}

// madeCatalog is the catalog of one set of types.
type madeCatalog struct {
	Catalog
	of *map[string]*Type
}

func (t *Type) catalog(files *fileSet) CatalogType {
	c := CatalogType{Name: t.Name, MustCreate: t.MustCreate}
	for _, name := range t.MethodNames() {
		m := t.Methods[name]
		if m.Internal {
			continue // whoever knows types by their catalog asks for clients
		}
		c.Methods = append(c.Methods, CatalogMethod{Name: name, ReadOnly: m.ReadOnly, Request: files.of(m.Request), Response: files.of(m.Response)})
	}
	return c
}

func (c *Catalog) digest() string {
	h := sha256.New()
	for _, t := range c.Types {
		fmt.Fprintf(h, "%q %v\n", t.Name, t.MustCreate)
		for _, m := range t.Methods {
			fmt.Fprintf(h, "\t%q %v %q %q\n", m.Name, m.ReadOnly, m.Request, m.Response)
		}
	}
	_, _ = io.WriteString(h, "\n") // a hash takes all
	_, _ = h.Write(c.Files)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// fileSet collects files with what they import.
type fileSet struct {
	set  descriptorpb.FileDescriptorSet
	seen map[string]bool
}

// of takes in the file of a message, and returns the message's name.
func (s *fileSet) of(m proto.Message) string {
	d := m.ProtoReflect().Descriptor()
	s.add(d.ParentFile())
	return string(d.FullName())
}

func (s *fileSet) add(f protoreflect.FileDescriptor) {
	if f.IsPlaceholder() || s.seen[f.Path()] {
		return
	}
	s.seen[f.Path()] = true
	for i := range f.Imports().Len() {
		s.add(f.Imports().Get(i).FileDescriptor)
	}
	s.set.File = append(s.set.File, protodesc.ToFileDescriptorProto(f))
}
