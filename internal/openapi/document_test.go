package openapi

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/xiaonanln/goverse/object"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestGolden(t *testing.T) {
	var got bytes.Buffer
	if err := json.Indent(&got, typesOf(t, everything(t)).Document(Options{Authenticated: true}), "", " "); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/everything.json"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the document has changed; look at it with -update and git diff:\n%s", got.Bytes())
	}
}

func documentOf(t *testing.T, ts *Types, o Options) obj {
	t.Helper()
	v, err := parse(ts.Document(o))
	if err != nil {
		t.Fatal(err)
	}
	return v.(obj)
}

// The rules of the OpenAPI 3.1 schema that a document like this can break.
func TestStructure(t *testing.T) {
	for name, o := range map[string]Options{"open": {}, "authenticated": {Authenticated: true}} {
		t.Run(name, func(t *testing.T) {
			d := documentOf(t, typesOf(t, everything(t)), o)
			only(t, "", d, "openapi info jsonSchemaDialect servers paths components security tags", "openapi info paths")
			if d["openapi"] != "3.1.0" {
				t.Error(d["openapi"])
			}
			only(t, "info", d["info"].(obj), "title version description", "title version")
			components := d["components"].(obj)
			only(t, "components", components, "schemas responses parameters securitySchemes", "")
			for kind, list := range components {
				for key := range list.(obj) {
					if !regexp.MustCompile(`^[a-zA-Z0-9._-]+$`).MatchString(key) {
						t.Errorf("%s: the name %s", kind, key)
					}
				}
			}
			for _, need := range listOf(d["security"]) {
				for scheme := range need.(obj) {
					if components["securitySchemes"].(obj)[scheme] == nil {
						t.Errorf("security %s is not described", scheme)
					}
				}
			}
			if _, secured := d["security"]; secured != o.Authenticated {
				t.Errorf("security: %v", secured)
			}
			ids := map[string]bool{}
			for path, item := range d["paths"].(obj) {
				checkPath(t, d, path, item.(obj), ids)
			}
			references(t, d, d, "#")
		})
	}
}

func checkPath(t *testing.T, d obj, path string, item obj, ids map[string]bool) {
	t.Helper()
	if !strings.HasPrefix(path, "/") {
		t.Errorf("the path %s", path)
	}
	only(t, path, item, "parameters get put post delete", "")
	shared := checkParameters(t, d, path, item["parameters"])
	for _, method := range []string{"get", "put", "post", "delete"} {
		op, ok := item[method].(obj)
		if !ok {
			continue
		}
		at := method + " " + path
		only(t, at, op, "tags summary description operationId parameters requestBody responses x-goverse-read-only", "operationId responses")
		if id := op["operationId"].(string); ids[id] {
			t.Errorf("%s: the operation %s is there twice", at, id)
		} else {
			ids[id] = true
		}
		inPath := append(checkParameters(t, d, at, op["parameters"]), shared...)
		var templated []string
		for _, m := range regexp.MustCompile(`\{([^}]*)\}`).FindAllStringSubmatch(path, -1) {
			templated = append(templated, m[1])
		}
		if !slices.Equal(inPath, templated) {
			t.Errorf("%s: parameters %v are described", at, inPath)
		}
		if body, ok := op["requestBody"].(obj); ok {
			only(t, at+" body", body, "content description required", "content")
			checkContent(t, at, body["content"].(obj))
		}
		for status, r := range op["responses"].(obj) {
			if !regexp.MustCompile(`^([1-5][0-9][0-9]|default)$`).MatchString(status) {
				t.Errorf("%s: status %s", at, status)
			}
			response := follow(t, d, r.(obj))
			only(t, at+" "+status, response, "description content headers", "description")
			if content, ok := response["content"].(obj); ok {
				checkContent(t, at, content)
			}
		}
	}
}

// checkParameters returns the names of those in the path.
func checkParameters(t *testing.T, d obj, at string, list any) (inPath []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, p := range listOf(list) {
		p := follow(t, d, p.(obj))
		only(t, at+" parameter", p, "name in required schema description", "name in schema")
		name, in := p["name"].(string), p["in"].(string)
		if seen[in+name] {
			t.Errorf("%s: the parameter %s is there twice", at, name)
		}
		seen[in+name] = true
		switch in {
		case "path":
			inPath = append(inPath, name)
			if p["required"] != true {
				t.Errorf("%s: %s is in the path, and not required", at, name)
			}
		case "query", "header":
		default:
			t.Errorf("%s: a parameter in %s", at, in)
		}
	}
	return inPath
}

func checkContent(t *testing.T, at string, content obj) {
	t.Helper()
	for kind, media := range content {
		if !strings.Contains(kind, "/") {
			t.Errorf("%s: the content %s", at, kind)
		}
		only(t, at+" "+kind, media.(obj), "schema", "schema")
	}
}

// only says which keys may be there, and which must.
func only(t *testing.T, at string, o obj, may, must string) {
	t.Helper()
	for key := range o {
		if !slices.Contains(strings.Fields(may), key) {
			t.Errorf("%s: there is a %s", at, key)
		}
	}
	for _, key := range strings.Fields(must) {
		if o[key] == nil {
			t.Errorf("%s: there is no %s", at, key)
		}
	}
}

func listOf(v any) []any { list, _ := v.([]any); return list }

func follow(t *testing.T, d, o obj) obj {
	t.Helper()
	ref, ok := o["$ref"].(string)
	if !ok {
		return o
	}
	target, err := resolve(d, ref)
	if err != nil {
		t.Fatal(err)
	}
	return target.(obj)
}

// references finds every $ref, and follows it.
func references(t *testing.T, root obj, here any, at string) {
	t.Helper()
	switch here := here.(type) {
	case obj:
		if ref, ok := here["$ref"].(string); ok {
			if _, err := resolve(root, ref); err != nil {
				t.Errorf("%s: %v", at, err)
			}
		}
		for key, value := range here {
			references(t, root, value, at+"/"+key)
		}
	case []any:
		for _, value := range here {
			references(t, root, value, at)
		}
	}
}

func TestPathsOfTypes(t *testing.T) {
	ts := typesOf(t, everything(t))
	const root = "/api/v1/objects/"
	want := []string{root + "All/{id}", root + "All/{id}/M", root + "All/{id}/Write", root + "Counter/{id}", root + "Counter/{id}/Add", root + "Counter/{id}/Has",
		root + "odd%2F%7Bname%7D/{id}", root + "odd%2F%7Bname%7D/{id}/%3F"}
	if got := objectPaths(documentOf(t, ts, Options{})); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	// Clients may call one method, and create nothing.
	visible := func(typ, method string) bool { return typ == "Counter" && method == "Add" }
	d := documentOf(t, ts, Options{Visible: visible})
	if got := objectPaths(d); !slices.Equal(got, []string{root + "Counter/{id}/Add"}) {
		t.Errorf("%q", got)
	}
	if schemas := d["components"].(obj)["schemas"].(obj); len(schemas) != 1 || len(listOf(d["tags"])) != 1 {
		t.Errorf("messages of what nobody may call: %v", slices.Sorted(maps.Keys(schemas)))
	}
}

func objectPaths(d obj) (list []string) {
	for path := range d["paths"].(obj) {
		if strings.HasPrefix(path, "/api/v1/objects/") {
			list = append(list, path)
		}
	}
	slices.Sort(list)
	return list
}

func TestQueryParameters(t *testing.T) {
	d := documentOf(t, typesOf(t, everything(t)), Options{})
	names := func(path string) (list []string) {
		for _, p := range listOf(d["paths"].(obj)[path].(obj)["get"].(obj)["parameters"]) {
			list = append(list, p.(obj)["name"].(string))
		}
		return list
	}
	if got := names("/api/v1/objects/Counter/{id}/Has"); !slices.Equal(got, []string{"value"}) {
		t.Errorf("of a scalar: %q", got)
	}
	got := names("/api/v1/objects/All/{id}/M")
	for _, name := range []string{"aBool", "strings", "nested.flag", "nested.deeper.flag", "self.nested.flag", "at", "wInt64"} {
		if !slices.Contains(got, name) {
			t.Errorf("%s is not among %q", name, got)
		}
	}
	for _, name := range []string{"any", "structure", "byName", "nestedList", "nested", "empty", "self.self.self.aBool", "nested.deeper.deeper.flag"} {
		if slices.Contains(got, name) {
			t.Errorf("no query can say %s", name)
		}
	}
}

// While a new version is rolled out nodes differ: the newest that has a type is right, and
// two versions of a message are two schemas.
func TestTwoVersions(t *testing.T) {
	older, newer := fileIn(t, "old"), fileIn(t, "old")
	newer.MessageType[0].Field[0].Label = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
	first, second := catalog(t, "new", "A", "old.Old", newer), catalog(t, "older", "B", "old.Old", older)
	second.Types = append(second.Types, object.CatalogType{Name: "A"})
	d := documentOf(t, typesOf(t, first, second), Options{})
	schemas := d["components"].(obj)["schemas"].(obj)
	response := func(path string) obj {
		return follow(t, d, d["paths"].(obj)[path].(obj)["post"].(obj)["responses"].(obj)["200"].(obj)["content"].(obj)["application/json"].(obj)["schema"].(obj))
	}
	if response("/api/v1/objects/A/{id}/M")["required"] != nil || response("/api/v1/objects/B/{id}/M")["required"] == nil {
		t.Errorf("whose version is whose: %v", slices.Sorted(maps.Keys(schemas)))
	}
	if len(schemas) != 1+2+2 { // what did not change is there once: the enum and the group; and how calls fail
		t.Errorf("%v", slices.Sorted(maps.Keys(schemas)))
	}
	references(t, d, d, "#")
	one, two := typesOf(t, first, second), typesOf(t, second, first)
	if one.Digest == two.Digest {
		t.Error("which is newer makes no difference")
	}
}

func TestSilentNodesAreTold(t *testing.T) {
	ts, err := NewTypes([]object.Catalog{everything(t)}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if d := documentOf(t, ts, Options{}); d["x-goverse-silent-nodes"] != 2.0 {
		t.Errorf("%v", d["x-goverse-silent-nodes"])
	}
}

// What a node says is not believed blindly.
func TestCatalogsThatLie(t *testing.T) {
	good := func() object.Catalog { return catalog(t, "d", "A", "old.Old", fileIn(t, "old")) }
	for name, spoil := range map[string]func(*object.Catalog){
		"no protobuf":       func(c *object.Catalog) { c.Files = []byte{0xff} },
		"a missing import":  func(c *object.Catalog) { c.Files = onlyLast(t, c.Files) },
		"an unknown name":   func(c *object.Catalog) { c.Types[0].Methods[0].Request = "old.Nothing" },
		"an enum":           func(c *object.Catalog) { c.Types[0].Methods[0].Response = "old.Mood" },
		"no name":           func(c *object.Catalog) { c.Types[0].Methods[0].Response = "" },
		"a file that lacks": func(c *object.Catalog) { c.Files = nil },
	} {
		c := good()
		spoil(&c)
		if _, err := NewTypes([]object.Catalog{c}, 0); err == nil || !strings.Contains(err.Error(), "catalog d") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewTypes([]object.Catalog{good()}, 0); err != nil {
		t.Error(err)
	}
}

func onlyLast(t *testing.T, files []byte) []byte {
	t.Helper()
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(files, &set); err != nil {
		t.Fatal(err)
	}
	last := fileIn(t, "everything") // it imports much
	set.File = []*descriptorpb.FileDescriptorProto{last}
	b, err := proto.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
