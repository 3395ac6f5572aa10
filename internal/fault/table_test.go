package fault

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

// The numbers are on the wire and the codes are clients' business: a line of this
// never changes, and new kinds come at its end.
const frozen = `
1 invalid InvalidArgument 400 INVALID_BODY NotExecuted
2 not found NotFound 404 OBJECT_NOT_FOUND NotExecuted
3 already exists AlreadyExists 409 CONFLICT NotExecuted
4 unknown type Unimplemented 404 OBJECT_NOT_FOUND NotExecuted
5 unknown method Unimplemented 404 OBJECT_NOT_FOUND NotExecuted
6 stale caller FailedPrecondition 409 CONFLICT NotExecuted
7 expired call id FailedPrecondition 409 CONFLICT NotExecuted
8 call id reused FailedPrecondition 409 CONFLICT NotExecuted
9 wrong holder FailedPrecondition 503 NOT_READY NotExecuted reroutes
10 draining Unavailable 503 NOT_READY NotExecuted reroutes
11 not ready Unavailable 503 NOT_READY NotExecuted reroutes
12 overloaded ResourceExhausted 429 OVERLOADED NotExecuted
13 unauthenticated Unauthenticated 401 UNAUTHENTICATED NotExecuted
14 forbidden PermissionDenied 403 ACCESS_DENIED NotExecuted
15 cycle Aborted 409 CONFLICT NotExecuted
16 fenced Unavailable 503 NOT_READY Unknown
17 store failed Unavailable 503 NOT_READY Unknown
18 failed Unknown 500 CALL_FAILED Executed
19 panicked Internal 500 CALL_FAILED Executed
20 outcome unknown Unavailable 502 UNKNOWN_OUTCOME Unknown
21 canceled Canceled 499 TIMEOUT Unknown
22 deadline exceeded DeadlineExceeded 504 TIMEOUT Unknown
23 too large ResourceExhausted 413 TOO_LARGE NotExecuted
24 not read-only FailedPrecondition 405 METHOD_NOT_ALLOWED NotExecuted
25 call settled FailedPrecondition 409 CONFLICT NotExecuted
`

func TestTableIsFrozen(t *testing.T) {
	var b strings.Builder
	for _, r := range Table() {
		fmt.Fprintf(&b, "\n%d %s %v %d %s %v", r.Kind, r.Name, r.GRPC, r.HTTP, r.Code, r.Outcome)
		if r.Reroutes {
			b.WriteString(" reroutes")
		}
	}
	if got := b.String() + "\n"; got != frozen {
		t.Errorf("the table is now\n%s\nand was\n%s", got, frozen)
	}
}

// Each constant of type Kind has its own row, at its number. They are counted in
// the source, so that a new one cannot go without.
func TestEveryKindHasARow(t *testing.T) {
	kinds := kindNames(t)
	if len(kinds) != len(table) {
		t.Fatalf("%d kinds (%v), %d rows", len(kinds), kinds, len(table))
	}
	names := map[string]Kind{}
	for i, r := range Table() {
		if int(r.Kind) != i+1 || r.Kind.Row() != r {
			t.Errorf("row %d is of kind %d", i+1, r.Kind)
		}
		if r.Name == "" || names[r.Name] != 0 || r.Kind.String() != r.Name {
			t.Errorf("%d is called %q, as is %d", r.Kind, r.Name, names[r.Name])
		}
		names[r.Name] = r.Kind
		if r.GRPC == codes.OK || r.HTTP < 400 || r.Code == "" {
			t.Errorf("%v is no error to a client: %+v", r.Kind, r)
		}
		if r.HTTP != 499 && http.StatusText(r.HTTP) == "" {
			t.Errorf("%v has HTTP status %d, which does not exist", r.Kind, r.HTTP)
		}
		if r.Reroutes && r.Outcome != NotExecuted {
			t.Errorf("%v is retried although it may have run", r.Kind)
		}
	}
	if Table()[0].Name = "changed"; Invalid.Row().Name == "changed" {
		t.Error("Table is no copy")
	}
}

func kindNames(t *testing.T) (names []string) {
	file, err := parser.ParseFile(token.NewFileSet(), "kind.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		if first := g.Specs[0].(*ast.ValueSpec); fmt.Sprint(first.Type) != "Kind" {
			continue
		}
		for _, spec := range g.Specs {
			names = append(names, spec.(*ast.ValueSpec).Names[0].Name)
		}
	}
	return names
}

// What a newer peer may send is an error whose outcome is open.
func TestUnknownKinds(t *testing.T) {
	for _, k := range []Kind{0, Kind(len(table) + 1), 255} {
		if r := k.Row(); r.Kind != Indeterminate || r.Outcome != OutcomeUnknown || r.Reroutes {
			t.Errorf("kind %d reads as %+v", k, r)
		}
	}
}

func TestOutcomeNames(t *testing.T) {
	for o, want := range map[Outcome]string{OutcomeUnknown: "Unknown", NotExecuted: "NotExecuted", Executed: "Executed", 9: "Unknown"} {
		if o.String() != want {
			t.Errorf("%d is called %v", o, o)
		}
	}
}
