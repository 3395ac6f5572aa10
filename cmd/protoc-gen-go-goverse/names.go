package main

import (
	"fmt"
	"reflect"
	"slices"

	"google.golang.org/protobuf/compiler/protogen"

	"github.com/xiaonanln/goverse/object"
)

// names are what is declared in each Go package, and what declares it.
type names map[protogen.GoIdent]string

// namesOf are those that protoc-gen-go declares for the files of the request.
func namesOf(gen *protogen.Plugin) names {
	n := names{}
	for _, f := range gen.Files {
		n.addMessages(f.Messages)
		n.addEnums(f.Enums)
		n.addExtensions(f.Extensions)
	}
	return n
}

func (n names) addMessages(messages []*protogen.Message) {
	for _, m := range messages {
		n[m.GoIdent] = "message " + string(m.Desc.FullName())
		for _, f := range m.Fields {
			if f.Oneof != nil {
				n[f.GoIdent] = "field " + string(f.Desc.FullName())
			}
		}
		n.addMessages(m.Messages)
		n.addEnums(m.Enums)
		n.addExtensions(m.Extensions)
	}
}

func (n names) addEnums(enums []*protogen.Enum) {
	for _, e := range enums {
		n[e.GoIdent] = "enum " + string(e.Desc.FullName())
		for _, v := range e.Values {
			n[v.GoIdent] = "enum value " + string(v.Desc.FullName())
		}
	}
}

func (n names) addExtensions(extensions []*protogen.Extension) {
	for _, x := range extensions {
		ident := x.GoIdent
		ident.GoName = "E_" + ident.GoName
		n[ident] = "extension " + string(x.Desc.FullName())
	}
}

// take declares the names of a service, or says which one is taken.
func (n names) take(s *service) error {
	for _, name := range []string{s.object(), s.newType(), s.ref(), s.newRef(), s.fake(), s.table()} {
		ident := s.file.GoImportPath.Ident(name)
		if by, taken := n[ident]; taken {
			return fmt.Errorf("its code needs the Go name %s, which is that of %s: give one of them another name", name, by)
		}
		n[ident] = "the code of service " + string(s.Desc.FullName())
	}
	return nil
}

// reserved are the names that a method of a service cannot have, because every object
// and every reference have something of that name.
var reserved = func() (list []string) {
	for _, t := range []reflect.Type{reflect.TypeFor[*object.BaseObject](), reflect.TypeFor[object.Callee]()} {
		for i := range t.NumMethod() {
			list = append(list, t.Method(i).Name)
		}
	}
	base := reflect.TypeFor[object.BaseObject]()
	for i := range base.NumField() {
		if base.Field(i).IsExported() {
			list = append(list, base.Field(i).Name)
		}
	}
	list = append(list, reflect.TypeFor[object.Callee]().Name(), base.Name())
	slices.Sort(list)
	return slices.Compact(list)
}()
