// Command protoc-gen-go-goverse is a plugin of protoc and of buf. From each service of a
// .proto file it makes the Go code of an object type: the interface that the type
// implements, its registration, a typed reference to its objects, and a fake for tests.
//
//	protoc --go_out=. --go_opt=paths=source_relative \
//	       --go-goverse_out=. --go-goverse_opt=paths=source_relative chat.proto
//
// With buf, in buf.gen.yaml:
//
//	plugins:
//	  - local: protoc-gen-go
//	    out: .
//	    opt: paths=source_relative
//	  - local: protoc-gen-go-goverse
//	    out: .
//	    opt: paths=source_relative
//
// The code goes into the package of the messages, as NAME_goverse.pb.go. The options
// are those of every plugin that is made with protogen: paths, module and M.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// version is of the generated code: it names the constant of package object without
// which the code does not compile.
const version = 1

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "protoc-gen-go-goverse is run by protoc or buf, which say on its standard input what to generate.")
		flag.PrintDefaults()
	}
	asked := flag.Bool("version", false, "print the version of the code that it generates, and end")
	flag.Parse()
	switch {
	case *asked:
		fmt.Fprintf(os.Stdout, "protoc-gen-go-goverse %d\n", version)
	case flag.NArg() > 0:
		flag.Usage()
		os.Exit(2)
	default:
		protogen.Options{}.Run(generate)
	}
}

// generate answers one request.
func generate(gen *protogen.Plugin) error {
	gen.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL | pluginpb.CodeGeneratorResponse_FEATURE_SUPPORTS_EDITIONS)
	gen.SupportedEditionsMinimum = descriptorpb.Edition_EDITION_PROTO2
	gen.SupportedEditionsMaximum = descriptorpb.Edition_EDITION_2024
	names := namesOf(gen)
	var errs []error
	for _, f := range gen.Files {
		if f.Generate {
			errs = append(errs, generateFile(gen, f, names))
		}
	}
	return errors.Join(errs...)
}
