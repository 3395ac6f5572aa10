// Command protoc compiles .proto files with plugins, without an installed protoc.
//
//	protoc [-I DIR]... [-plugin NAME=COMMAND]... [-out DIR] FILE...
//
// It parses and links the files with protocompile, hands each plugin a
// CodeGeneratorRequest as protoc would, and writes what the plugin answers.
// Paths in the output are relative to the source (paths=source_relative).
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	var roots, plugins list
	flag.Var(&roots, "I", "a folder in which imports are looked up (repeatable; default .)")
	flag.Var(&plugins, "plugin", "a plugin's command (repeatable)")
	out := flag.String("out", ".", "the folder that the generated files are written below")
	flag.Parse()
	if len(roots) == 0 {
		roots = list{"."}
	}
	if err := run(roots, plugins, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "protoc:", err)
		os.Exit(1)
	}
}

func run(roots, plugins []string, out string, files []string) error {
	if len(files) == 0 {
		return errors.New("no .proto files given")
	}
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: roots}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	linked, err := compiler.Compile(context.Background(), files...)
	if err != nil {
		return err
	}
	request := request(linked, files)
	for _, plugin := range plugins {
		if err := generate(plugin, request, out); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(plugin), err)
		}
	}
	return nil
}

func request(linked linker.Files, files []string) *pluginpb.CodeGeneratorRequest {
	r := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: files,
		Parameter:      proto.String("paths=source_relative"),
		// Plugins print the compiler's version into the file they write; a fixed one
		// keeps their output the same whatever is installed here.
		CompilerVersion: &pluginpb.Version{Major: proto.Int32(6), Minor: proto.Int32(33), Patch: proto.Int32(0)},
	}
	seen := map[string]bool{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		r.ProtoFile = append(r.ProtoFile, descriptor(f))
	}
	for _, f := range linked {
		add(f)
	}
	return r
}

func descriptor(f protoreflect.FileDescriptor) *descriptorpb.FileDescriptorProto {
	return protoutil.ProtoFromFileDescriptor(f)
}

func generate(plugin string, request *pluginpb.CodeGeneratorRequest, out string) error {
	in, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	var answer bytes.Buffer
	cmd := exec.Command(plugin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &answer, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	response := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(answer.Bytes(), response); err != nil {
		return err
	}
	if response.Error != nil {
		return errors.New(response.GetError())
	}
	if err := knows(response, request); err != nil {
		return err
	}
	for _, f := range response.File {
		path := filepath.Join(out, f.GetName())
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// knows refuses, as protoc does, a plugin that does not say that it understands what a
// file to generate uses.
func knows(response *pluginpb.CodeGeneratorResponse, request *pluginpb.CodeGeneratorRequest) error {
	has := func(f pluginpb.CodeGeneratorResponse_Feature) bool {
		return response.GetSupportedFeatures()&uint64(f) != 0
	}
	for _, f := range request.ProtoFile {
		edition := f.GetEdition()
		switch {
		case !slices.Contains(request.FileToGenerate, f.GetName()):
		case slices.ContainsFunc(f.MessageType, hasOptional) && !has(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL):
			return fmt.Errorf("%s: the plugin does not know proto3 optional", f.GetName())
		case f.GetSyntax() != "editions":
		case !has(pluginpb.CodeGeneratorResponse_FEATURE_SUPPORTS_EDITIONS) || int32(edition) < response.GetMinimumEdition() || int32(edition) > response.GetMaximumEdition():
			return fmt.Errorf("%s: the plugin does not know %v", f.GetName(), edition)
		}
	}
	return nil
}

func hasOptional(m *descriptorpb.DescriptorProto) bool {
	return slices.ContainsFunc(m.Field, (*descriptorpb.FieldDescriptorProto).GetProto3Optional) || slices.ContainsFunc(m.NestedType, hasOptional)
}
