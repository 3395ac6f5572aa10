package telemetry

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// keyUse is a key where it is given to a line; an expression if it is no literal.
type keyUse struct{ at, key, expr string }

// notLiteral are the keys that are given by a name, and what they can be.
var notLiteral = map[string][]string{
	"internal/telemetry/audit.go a.key": {"client", "user", "from", "objType", "id", "method"},
	"util/logger/logger.go nameKey":     {"logger"},
}

// All keys of log lines anywhere in the module are in the list, and all in the list are
// used: who reads logs by program can rely on it.
func TestLogKeys(t *testing.T) {
	listed, used := map[string]bool{}, map[string]bool{}
	for _, k := range logKeys {
		listed[k.name] = true
	}
	if !slices.IsSortedFunc(logKeys, func(a, b logKey) int { return strings.Compare(a.name, b.name) }) || len(listed) != len(logKeys) {
		t.Error("the list is not in order, or has a key twice")
	}
	uses := keysOf(t, "../..")
	if len(uses) < 30 {
		t.Fatalf("only %d uses were found: the test does not see them any more", len(uses))
	}
	for _, u := range uses {
		keys, known := []string{u.key}, true
		if u.expr != "" {
			keys, known = notLiteral[u.expr]
		}
		if !known {
			t.Errorf("%s: the key %s is no literal: give it one, or list what it can be in notLiteral", u.at, u.expr)
		}
		for _, key := range keys {
			used[key] = true
			if known && !listed[key] {
				t.Errorf("%s: the key %q is not in logKeys: take one that is, or say there what it means", u.at, key)
			}
		}
	}
	for key := range listed {
		if !used[key] {
			t.Errorf("no line has the key %q", key)
		}
	}
}

// keysOf finds the keys in all code below root that is neither a test's nor another module's.
func keysOf(t *testing.T, root string) (uses []keyUse) {
	t.Helper()
	files := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		at, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || slices.Contains([]string{"bench", "test", "node_modules", "testdata"}, at)):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), `"log/slog"`) && !strings.Contains(string(text), ".log.") {
			return err
		}
		f, err := parser.ParseFile(files, path, text, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				for _, key := range keysIn(call) {
					uses = append(uses, useOf(files, filepath.ToSlash(at), key))
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return uses
}

// keysIn is the keys that a call gives to a line: of slog.String and its like, and of
// x.log.Info and its like.
func keysIn(call *ast.CallExpr) (keys []ast.Expr) {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	switch from := f.X.(type) {
	case *ast.Ident:
		attrs := []string{"String", "Int", "Int64", "Uint64", "Float64", "Bool", "Time", "Duration", "Group", "GroupAttrs", "Any"}
		if from.Name == "slog" && slices.Contains(attrs, f.Sel.Name) {
			return call.Args[:1]
		}
	case *ast.SelectorExpr:
		if from.Sel.Name == "log" && slices.Contains([]string{"Debug", "Info", "Warn", "Error", "With"}, f.Sel.Name) {
			first := 1
			if f.Sel.Name == "With" {
				first = 0
			}
			for i := first; i < len(call.Args); i += 2 {
				keys = append(keys, call.Args[i])
			}
		}
	}
	return keys
}

func useOf(files *token.FileSet, path string, key ast.Expr) keyUse {
	u := keyUse{at: path + ":" + strconv.Itoa(files.Position(key.Pos()).Line)}
	switch k := key.(type) {
	case *ast.BasicLit:
		u.key, _ = strconv.Unquote(k.Value)
	case *ast.Ident:
		u.expr = path + " " + k.Name
	case *ast.SelectorExpr:
		name := k.Sel.Name
		if x, ok := k.X.(*ast.Ident); ok {
			name = x.Name + "." + name
		}
		u.expr = path + " " + name
	default:
		u.expr = path + " (an expression)"
	}
	return u
}

func TestLogReference(t *testing.T) {
	const path = "../../docs/reference/logs.md"
	if *update {
		if err := os.WriteFile(path, []byte(LogReference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != LogReference() {
		t.Errorf("%s is not what the code says; go test ./internal/telemetry -update writes it (%v)", path, err)
	}
}
