package api

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/xiaonanln/goverse/cmd/gate/gatecmd"
	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/internal/conf"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// judge says whether there is a name of its kind where it should be.
type judge func(t *testing.T, where, name string) bool

// Every name of the public contract is there: testdata/names.txt has them all.
func TestNames(t *testing.T) {
	contract := readContract(t)
	judges := map[string]judge{
		"go": goNames(t, contract), "rpc": hasMethod, "message": hasField, "enum": hasNumber, "http": routes(t), "header": inSource, "event": inSource,
		"code": inSource, "json": inSource, "flag": hasFlag, "command": hasCommand, "key": hasKey(yamlKeys(reflect.TypeFor[conf.File](), "")),
	}
	names := 0
	for _, p := range contract {
		if judges[p.kind] == nil {
			t.Fatalf("%+v is of no known kind", p)
		}
		for _, name := range p.names {
			names++
			if !judges[p.kind](t, p.where, name) {
				t.Errorf("%s %s: there is no %s", p.kind, p.where, name)
			}
		}
	}
	if names < 300 {
		t.Errorf("the list has %d names only", names)
	}
}

// promise is a line of the list.
type promise struct {
	kind, where string
	names       []string
}

func readContract(t *testing.T) (all []promise) {
	list, err := os.ReadFile("testdata/names.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		about, names, _ := strings.Cut(line, ": ")
		kind, where, _ := strings.Cut(about, " ")
		all = append(all, promise{kind, where, strings.Fields(names)})
	}
	return all
}

const module = "github.com/xiaonanln/goverse/"

// goNames finds the names of packages, and of fields and methods of their types, in what the
// compiler has exported.
func goNames(t *testing.T, contract []promise) judge {
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}
	for _, p := range contract {
		if p.kind == "go" {
			path, _, _ := strings.Cut(p.where, " ")
			args = append(args, module+path)
		}
	}
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		exported[path] = file
	}
	imports := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(exported[path]) })
	return func(t *testing.T, where, name string) bool {
		path, owner, isMember := strings.Cut(where, " ")
		p, err := imports.Import(module + path)
		if err != nil {
			t.Fatal(err)
		}
		if !isMember {
			return token.IsExported(name) && p.Scope().Lookup(name) != nil
		}
		typ := p.Scope().Lookup(owner)
		if typ == nil {
			return false
		}
		of := typ.Type()
		if !types.IsInterface(of) {
			of = types.NewPointer(of)
		}
		found, _, _ := types.LookupFieldOrMethod(of, true, p, name)
		return found != nil && found.Exported()
	}
}

func descriptor[D protoreflect.Descriptor](t *testing.T, name string) (d D) {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return d
	}
	d, _ = found.(D)
	return d
}

func hasMethod(t *testing.T, where, name string) bool {
	d := descriptor[protoreflect.ServiceDescriptor](t, where)
	return d != nil && d.Methods().ByName(protoreflect.Name(name)) != nil
}

func hasField(t *testing.T, where, numbered string) bool {
	name, number, _ := strings.Cut(numbered, "=")
	d := descriptor[protoreflect.MessageDescriptor](t, where)
	if d == nil {
		return false
	}
	f := d.Fields().ByName(protoreflect.Name(name))
	return f != nil && fmt.Sprint(f.Number()) == number
}

func hasNumber(t *testing.T, where, numbered string) bool {
	name, number, _ := strings.Cut(numbered, "=")
	d := descriptor[protoreflect.EnumDescriptor](t, where)
	if d == nil {
		return false
	}
	v := d.Values().ByName(protoreflect.Name(name))
	return v != nil && fmt.Sprint(v.Number()) == number
}

// nobody is a cluster without nodes, before which a gate can stand.
type nobody struct{ object.Records }

func (nobody) Call(context.Context, object.Call) (object.Payload, error) {
	return object.Payload{JSON: []byte("{}")}, nil
}

func (nobody) FollowPushes(ctx context.Context, _ string, _ func(peer.PushFrame) error) error {
	<-ctx.Done()
	return nil
}

func (nobody) Catalogs(context.Context) ([]object.Catalog, int, error) { return nil, 0, nil }
func (nobody) PushesReady() <-chan struct{}                            { return closed }
func (nobody) Ready() <-chan struct{}                                  { return closed }
func (nobody) PushesUp() bool                                          { return true }
func (nobody) Problems() []string                                      { return nil }

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// routes asks a gate for METHOD:path. One that is not there has a 404, or a failure that says
// so.
func routes(t *testing.T) judge {
	g, err := gateserver.NewGateServer(&gateserver.GateServerConfig{
		ListenAddress: "127.0.0.1:0", HTTPListenAddress: "127.0.0.1:0", OpsListenAddress: "127.0.0.1:0", Router: nobody{},
	})
	if err == nil {
		err = g.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	})
	at := map[string]string{"gate": g.HTTPAddr(), "operations": g.OpsAddr()}
	return func(t *testing.T, where, name string) bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		method, path, _ := strings.Cut(name, ":")
		r, err := http.NewRequestWithContext(ctx, method, "http://"+at[where]+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return false
		}
		defer answer.Body.Close()
		var failure struct{ Code string }
		if answer.StatusCode >= 400 {
			_ = json.NewDecoder(answer.Body).Decode(&failure) // a WebSocket's refusal is none
		}
		return answer.StatusCode != http.StatusNotFound && answer.StatusCode != http.StatusMethodNotAllowed && failure.Code != "INVALID_PATH"
	}
}

// inSource finds a word, quoted, where gates answer: what they do with it other tests show.
func inSource(t *testing.T, _, word string) bool {
	for _, folder := range []string{"../../gate/gateserver", "../../internal/fault"} {
		files, err := filepath.Glob(folder + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if text, err := os.ReadFile(f); !strings.HasSuffix(f, "_test.go") && err == nil && bytes.Contains(text, []byte(`"`+word+`"`)) {
				return true
			}
		}
	}
	return false
}

// page is the reference of the command line, which cmd/goverse holds against its commands.
func page(t *testing.T) string {
	text, err := os.ReadFile("../../docs/reference/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func hasFlag(t *testing.T, where, name string) bool {
	flags := flag.NewFlagSet("node", flag.ContinueOnError)
	switch where {
	case "gate":
		flags = gatecmd.Flags()
	case "node":
		goverseapi.NewConfigLoader(flags)
	default:
		return strings.Contains(page(t), "--"+name+" ")
	}
	return flags.Lookup(name) != nil
}

func hasCommand(t *testing.T, where, name string) bool {
	return strings.Contains(page(t), "\n## "+where+" "+name+"\n")
}

func hasKey(keys map[string]bool) judge {
	return func(_ *testing.T, _, name string) bool { return keys[name] }
}

// yamlKeys are the keys of a file, with [] behind those of lists.
func yamlKeys(typ reflect.Type, path string) map[string]bool {
	keys := map[string]bool{}
	for f := range fieldsOf(typ) {
		key := f.Tag.Get("yaml")
		if key == "" {
			continue
		}
		keys[path+key] = true
		below, behind := f.Type, "."
		if below.Kind() == reflect.Slice {
			below, behind = below.Elem(), "[]."
		}
		if below.Kind() == reflect.Pointer {
			below = below.Elem()
		}
		if below.Kind() == reflect.Struct {
			for inner := range yamlKeys(below, path+key+behind) {
				keys[inner] = true
			}
		}
	}
	return keys
}

func fieldsOf(typ reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range typ.NumField() {
			if !yield(typ.Field(i)) {
				return
			}
		}
	}
}
