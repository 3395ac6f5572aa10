package goverse

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/xiaonanln/goverse"

// room is a package, or with "/..." a folder of them, on its floor.
type room struct {
	floor int
	path  string
	drawn []string // what it may import on its own floor
}

// The house. A package may import from the floors below its own, and on its own
// floor only what is drawn. This table is the design: a build that fails because of
// it is wrong, unless the design itself is to change.
var house = []room{
	// 0: words. Values and contracts; no I/O, no goroutines.
	{0, ".", nil}, // the map
	{0, "cluster/sharding", nil},
	{0, "object", []string{"util/logger", "internal/fault", "internal/misfit"}},
	{0, "object/admit", []string{"object", "internal/fault", "cluster/sharding"}},
	{0, "proto", nil},
	{0, "proto/goverse", nil},
	{0, "gate/proto", nil},
	{0, "inspector/proto", nil},
	{0, "util/logger", nil},
	{0, "util/protohelper", nil},
	{0, "internal/fault", []string{"proto"}},
	{0, "internal/callctx", nil},
	{0, "internal/event", nil},
	{0, "internal/access", nil},
	{0, "internal/batch", nil},
	{0, "internal/most", nil},
	{0, "internal/misfit", nil},
	{0, "internal/stack", nil},

	// 1: edges. Each is the only room that touches one outside thing.
	{1, "cluster/etcdmanager", []string{"internal/secure"}},
	{1, "cluster/etcdmanager/memkv", []string{"cluster/etcdmanager"}},
	{1, "cluster/etcdmanager/kvtest", []string{"cluster/etcdmanager"}},
	{1, "cluster/etcdmanager/embedded", []string{"cluster/etcdmanager"}},
	{1, "object/memstore", nil},
	{1, "object/objecttest", nil},
	{1, "util/postgres", nil},
	{1, "util/sqlite", nil},
	{1, "internal/secure", nil},
	{1, "internal/peer", []string{"internal/secure"}},
	{1, "internal/archive", nil},
	{1, "internal/conf", nil},
	{1, "internal/origin", nil},
	{1, "internal/telemetry", []string{"internal/tracing"}},
	{1, "internal/tracing", nil},
	{1, "internal/openapi", nil},
	{1, "internal/operations", []string{"internal/archive", "internal/origin"}},
	{1, "client", nil},
	{1, "client/goverseclient", []string{"client", "internal/secure", "internal/tracing"}},
	{1, "client/js", nil},

	// 2: engines. One machine's own state; no network, no database, no etcd.
	{2, "node", nil},
	{2, "gate", nil},
	{2, "cluster/consensusmanager", nil},

	// 3: coordination.
	{3, "cluster", nil},
	{3, "gate/auth", nil}, // handlers for a gate, of whoever runs one
	{3, "cluster/diagnosis", nil},
	{3, "cluster/census", nil}, // for those who look at a cluster

	// 4: assemblies. They build the parts and own the life of the process.
	{4, "server", nil},
	{4, "gate/gateserver", nil},
	{4, "inspector", nil},

	// 5: faces.
	{5, "goverseapi", nil},
	{5, "goversetest", nil},

	// 6: programs. Each may import what is in its own folder.
	{6, "cmd/...", []string{"cmd/gate/gateconfig", "cmd/gate/gatecmd", "cmd/inspector/inspectorcmd"}}, // goverse has them too
	{6, "samples/...", nil},
	{6, "test/...", []string{"test/spawn"}},
	{6, "bench/...", []string{"bench/load/child", "bench/load/meter"}},
	{6, "script/...", nil},
	{6, "examples/...", []string{"samples/counter/proto"}},
}

const faces, programs = 5, 6

// ban says twice what the floors say once, or what they cannot: from must not
// depend on to, in however many steps.
type ban struct{ from, to, why string }

const (
	noWorld  = "objects reach the world through object.Runtime, which the server implements"
	noEngine = "coordination reaches its node as a Host, an argument of Run, so that gates link no node"
	noStore  = "a store is a value that the program hands in; goverseapi supplies the defaults"
	thinGate = "a gate's binary hosts no objects and has no database"
)

var bans = []ban{
	{"node", "cluster", noWorld},
	{"gate", "cluster", "a gate's sessions are tested without any cluster"},
	{"cluster", "node", noEngine},
	{"cluster", "gate", noEngine},
	{"gate/gateserver", "server", thinGate},
	{"gate/gateserver", "node", thinGate},
	{"client", "node", "the outside caller's library links no runtime"},
	{"client/goverseclient", "node", "the outside caller's library links no runtime"},
	{"server", "database/sql", noStore},
	{"server", "modernc.org/sqlite", noStore},
	{"server", "github.com/jackc/pgx", noStore},
	{"gate/gateserver", "database/sql", thinGate},
	{"gate/gateserver", "modernc.org/sqlite", thinGate},
	{"gate/gateserver", "github.com/jackc/pgx", thinGate},
}

// owner says that only some rooms import a thing from outside the module.
type owner struct {
	what string // an import path and all below it
	only []string
	why  string
}

var owners = []owner{
	{"go.etcd.io", []string{"cluster/etcdmanager", "cluster/etcdmanager/embedded"}, "etcd is etcdmanager's: everyone else knows its contract, which memkv has too"},
	{"modernc.org/sqlite", []string{"util/sqlite"}, "a database driver belongs to its store"},
	{"github.com/jackc/pgx", []string{"util/postgres", "test/pg"}, "a database driver belongs to its store"},
	{"database/sql", []string{"util/sqlite", "util/postgres"}, "SQL belongs to the stores"},
	{"github.com/anishathalye/porcupine", []string{"test/logbook/linear"}, "a search for orders belongs to the histories' checker"},
	{"go.yaml.in/yaml", []string{"internal/conf"}, "a file is read strictly, in one place"},
	{"go.opentelemetry.io", []string{"internal/tracing", "internal/telemetry"}, "spans are made in one place, of what engines ask their callctx.Tracer for"},
	{"connectrpc.com", []string{"gate/gateserver"}, "browsers' protocols belong to the gate's doors"},
	{"github.com/spf13/cobra", []string{"cmd/goverse"}, "only the command line is one"},
	{"testing", []string{"cluster/etcdmanager/kvtest", "object/objecttest", "goversetest", "test/pg", "test/spawn"}, "only a test kit is for tests"},
}

// habit bans what a package's source must not say.
type habit struct {
	floors [2]int // from, to
	says   func(use string) bool
	why    string
	except string // a room that may, for the reason beside it
}

var habits = []habit{
	{floors: [2]int{0, faces}, says: does("log", "New", "Logger"), // what net/http's ErrorLog wants
		why: "engines emit events and assemblies use util/logger"},
	{floors: [2]int{0, faces}, says: oneOf("fmt.Print", "fmt.Printf", "fmt.Println", "os.Stdout", "print", "println"),
		why:    "standard output is the program's",
		except: "goverseapi"}, // a standalone program that is all main shows its URLs through it
	{floors: [2]int{0, 0}, says: oneOf("go"), why: "words start no goroutines"},
	{floors: [2]int{0, 0}, says: does("net", addresses...), why: "words do no I/O"},
	{floors: [2]int{2, 2}, says: does("net", addresses...), why: "an engine knows no network: it is tested without one"},
	{floors: [2]int{2, 2}, says: oneOf("google.golang.org/grpc", "net/http"), why: "an engine knows no network: it is tested without one"},
}

// addresses is the part of package net that is arithmetic.
var addresses = []string{"JoinHostPort", "SplitHostPort", "ParseIP", "IP"}

func oneOf(uses ...string) func(string) bool {
	return func(use string) bool { return slices.Contains(uses, use) }
}

// does recognises each use of a package but the harmless ones.
func does(pkg string, harmless ...string) func(string) bool {
	return func(use string) bool {
		rest, ok := strings.CutPrefix(use, pkg+".")
		return ok && !slices.Contains(harmless, rest)
	}
}

func TestFloors(t *testing.T) {
	for _, problem := range check(read(t)) {
		t.Error(problem)
	}
}

// unit is a package as the checker sees it.
type unit struct {
	imports []string // of this module: relative to it
	uses    []string // import paths, "fmt.Println", "go" for a go statement
}

func check(units map[string]unit) (problems []string) {
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for _, from := range slices.Sorted(maps.Keys(units)) {
		here, ok := find(from)
		if !ok {
			complain("%s is in no room: give it a floor in the table of arch_test.go", from)
			continue
		}
		for _, to := range units[from].imports {
			if _, own := units[to]; own && !mayImport(from, here, to) {
				complain("%s (floor %d) imports %s: only floors below it, and on its own what is drawn", from, here.floor, to)
			}
			for _, o := range owners {
				if below(to, o.what) && !slices.Contains(o.only, from) {
					complain("%s imports %s, which only %s may: %s", from, to, strings.Join(o.only, " and "), o.why)
				}
			}
		}
		for _, h := range habits {
			for _, use := range slices.Concat(units[from].imports, units[from].uses) {
				if here.floor >= h.floors[0] && here.floor <= h.floors[1] && from != h.except && h.says(use) {
					complain("%s uses %s: %s", from, use, h.why)
				}
			}
		}
	}
	for _, b := range bans {
		if steps := way(units, b.from, b.to); steps != nil {
			complain("%s must not depend on %s (%s): %s", b.from, b.to, b.why, strings.Join(steps, " -> "))
		}
	}
	return problems
}

func find(pkg string) (room, bool) {
	for _, r := range house {
		folder, many := strings.CutSuffix(r.path, "/...")
		if pkg == r.path || many && below(pkg, folder) {
			return r, true
		}
	}
	return room{}, false
}

// below says that pkg is root or in a folder below it.
func below(pkg, root string) bool { return pkg == root || strings.HasPrefix(pkg, root+"/") }

func mayImport(from string, here room, to string) bool {
	there, ok := find(to)
	switch {
	case !ok:
		return false
	case there.floor != here.floor:
		return there.floor < here.floor
	case here.floor == programs:
		return below(to, program(from)) || slices.Contains(here.drawn, to)
	default:
		return slices.Contains(here.drawn, to)
	}
}

// program is the folder that holds a program and its parts: cmd/gate, samples/chat.
func program(pkg string) string {
	parts := strings.Split(pkg, "/")
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// way is a chain of imports from one package to another, or nil.
func way(units map[string]unit, from, to string) []string {
	seen := map[string]bool{}
	var walk func(at string) []string
	walk = func(at string) []string {
		seen[at] = true
		for _, next := range units[at].imports {
			_, own := units[next]
			if next == to || !own && below(next, to) {
				return []string{at, next}
			}
			if own && !seen[next] {
				if rest := walk(next); rest != nil {
					return append([]string{at}, rest...)
				}
			}
		}
		return nil
	}
	return walk(from)
}

// read asks the go command for the packages, and their sources for what they say.
func read(t *testing.T) map[string]unit {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,CgoFiles,Imports", "./...").Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	units := map[string]unit{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir            string
			GoFiles, CgoFiles, Imports []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		u := unit{}
		for _, i := range p.Imports {
			u.imports = append(u.imports, relative(i))
		}
		for _, file := range slices.Concat(p.GoFiles, p.CgoFiles) {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			u.uses = append(u.uses, uses(parsed)...)
		}
		slices.Sort(u.uses)
		u.uses = slices.Compact(u.uses)
		units[relative(p.ImportPath)] = u
	}
	if len(units) < 10 {
		t.Fatalf("only %d packages were found", len(units))
	}
	return units
}

func relative(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

// uses lists what file says of the packages that the habits know.
func uses(file *ast.File) (found []string) {
	names := map[string]string{} // in this file → the package
	for _, i := range file.Imports {
		p := strings.Trim(i.Path.Value, `"`)
		if name := path.Base(p); i.Name == nil {
			names[name] = p
		} else {
			names[i.Name.Name] = p
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, "go")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains([]string{"fmt", "os", "net", "log"}, names[x.Name]) {
				found = append(found, names[x.Name]+"."+n.Sel.Name)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "print" || f.Name == "println") {
				found = append(found, f.Name)
			}
		}
		return true
	})
	return found
}

// Each rule catches what it is there for: a checker that cannot fail is worthless.
func TestTheCheckerCatches(t *testing.T) {
	sound := func() map[string]unit {
		return map[string]unit{
			".": {}, "object": {imports: []string{"util/logger"}}, "util/logger": {uses: []string{"os.Stderr"}},
			"proto": {}, "internal/fault": {imports: []string{"proto", "net/http"}},
			"cluster/etcdmanager": {imports: []string{"go.etcd.io/etcd/client/v3"}, uses: []string{"go"}},
			"util/sqlite":         {imports: []string{"object", "modernc.org/sqlite", "database/sql"}},
			"internal/peer":       {imports: []string{"object"}},
			"node":                {imports: []string{"internal/peer", "object"}, uses: []string{"net.SplitHostPort", "go"}},
			"gate":                {imports: []string{"internal/peer"}},
			"client":              {}, "client/goverseclient": {imports: []string{"client"}},
			"cluster":         {imports: []string{"cluster/etcdmanager", "internal/peer"}},
			"server":          {imports: []string{"cluster", "node", "net"}, uses: []string{"net.Listen"}},
			"gate/gateserver": {imports: []string{"cluster", "gate", "log"}, uses: []string{"log.New"}},
			"goverseapi":      {imports: []string{"server", "util/sqlite"}, uses: []string{"fmt.Println"}}, "goversetest": {},
			"cmd/gate": {imports: []string{"cmd/gate/gateconfig"}, uses: []string{"fmt.Println"}}, "cmd/gate/gateconfig": {imports: []string{"gate/gateserver"}},
			"cmd/goverse":  {imports: []string{"cmd/gate/gateconfig", "log"}, uses: []string{"log.Fatal"}},
			"samples/chat": {imports: []string{"goverseapi", "samples/chat/page"}}, "samples/chat/page": {},
		}
	}
	if problems := check(sound()); len(problems) > 0 {
		t.Fatalf("a sound house has problems: %q", problems)
	}
	for _, c := range []struct {
		from, adds string
		imports    bool
		want       string
	}{
		{"attic", "object", true, "attic is in no room"},
		{"object", "node", true, "object (floor 0) imports node"},
		{"object", "proto", true, "object (floor 0) imports proto"},
		{"internal/peer", "util/sqlite", true, "internal/peer (floor 1) imports util/sqlite"},
		{"samples/chat", "cmd/gate", true, "samples/chat (floor 6) imports cmd/gate"},
		{"cmd/goverse", "cmd/gate", true, "cmd/goverse (floor 6) imports cmd/gate"},
		{".", "object", true, ". (floor 0) imports object"},
		{"node", "cluster", true, "node must not depend on cluster"},
		{"internal/peer", "cluster", true, "node must not depend on cluster (" + noWorld + "): node -> internal/peer -> cluster"},
		{"gate", "cluster", true, "gate must not depend on cluster"},
		{"cluster", "node", true, "cluster must not depend on node"},
		{"cluster", "gate", true, "cluster must not depend on gate"},
		{"gate/gateserver", "server", true, "gate/gateserver must not depend on server"},
		{"gate", "node", true, "gate/gateserver must not depend on node"},
		{"client", "node", true, "client/goverseclient must not depend on node"},
		{"server", "util/sqlite", true, "server must not depend on modernc.org/sqlite"},
		{"cluster", "github.com/jackc/pgx/v5/pgxpool", true, "gate/gateserver must not depend on github.com/jackc/pgx"},
		{"node", "go.etcd.io/etcd/client/v3", true, "node imports go.etcd.io/etcd/client/v3, which only cluster/etcdmanager"},
		{"goverseapi", "modernc.org/sqlite", true, "goverseapi imports modernc.org/sqlite, which only util/sqlite"},
		{"util/logger", "testing", true, "util/logger imports testing"},
		{"server", "log.Printf", false, "server uses log.Printf: "},
		{"goverseapi", "log.Fatal", false, "goverseapi uses log.Fatal: "},
		{"goversetest", "fmt.Println", false, "goversetest uses fmt.Println: "},
		{"node", "os.Stdout", false, "node uses os.Stdout: "},
		{"node", "println", false, "node uses println: "},
		{"proto", "go", false, "proto uses go: "},
		{"object", "net.Dial", false, "object uses net.Dial: "},
		{"node", "net.Listen", false, "node uses net.Listen: "},
		{"gate", "net/http", true, "gate uses net/http: "},
	} {
		units := sound()
		u := units[c.from]
		if c.imports {
			u.imports = append(slices.Clone(u.imports), c.adds)
		} else {
			u.uses = append(slices.Clone(u.uses), c.adds)
		}
		units[c.from] = u
		problems := check(units)
		caught := slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, c.want) })
		if !caught {
			t.Errorf("%s + %s: got %q, want %q", c.from, c.adds, problems, c.want)
		}
	}
}

// The reader of sources sees what the habits ban, under any name.
func TestTheReaderSees(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
import (
	f "fmt"
	"log"
	"net"
	"os"
)
func x(y struct{ fmt int }) {
	f.Println(net.Dial, os.Stdout, log.Fatal)
	println("x")
	go x(y)
	_ = y.fmt
}`, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := uses(file)
	for _, want := range []string{"fmt.Println", "net.Dial", "os.Stdout", "log.Fatal", "println", "go"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s was not seen in %q", want, got)
		}
	}
	if len(got) != 6 {
		t.Errorf("seen: %q", got)
	}
}
