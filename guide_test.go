package goverse

import (
	"bytes"
	"fmt"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestGuideCompiles vets the Go of docs/guide as a program of its own for each page: a
// block that begins with "package" is a file, the others of a page make one file together.
// test/e2e does what the pages' consoles say.
func TestGuideCompiles(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles programs: not with -short")
	}
	pages, err := filepath.Glob("docs/guide/*.md")
	if err != nil || len(pages) < 8 {
		t.Fatalf("docs/guide has the pages %v, %v", pages, err)
	}
	dir := t.TempDir()
	outsideModule(t, dir, "guide")
	programs := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		source := joined(t, page, string(text))
		if source == nil {
			continue
		}
		programs++
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		file := "main.go"
		if bytes.Contains(source, []byte(`"testing"`)) {
			file = "main_test.go"
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, file), source, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if programs < 5 {
		t.Errorf("only %d pages have Go", programs)
	}
	cmd := exec.Command("go", "vet", "-mod=mod", "./...")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the guide's Go: %v\n%s", err, out)
	}
}

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```")

// joined is the file that a page's blocks make, nil if it has none.
func joined(t *testing.T, page, text string) []byte {
	t.Helper()
	var body strings.Builder
	for _, block := range goBlock.FindAllStringSubmatch(text, -1) {
		if formatted, err := format.Source([]byte(block[1])); err != nil || string(formatted) != block[1] {
			t.Errorf("%s: a block is not as gofmt has it (%v):\n%s", page, err, block[1])
		}
		body.WriteString(block[1] + "\n")
	}
	if body.Len() == 0 {
		return nil
	}
	source := "package main\n\n" + imports(body.String()) + body.String()
	if !strings.Contains(source, "\nfunc main()") && !strings.Contains(source, "*testing.T") {
		source += "func main() {}\n"
	}
	if _, err := parser.ParseFile(token.NewFileSet(), page, source, parser.SkipObjectResolution); err != nil {
		t.Fatal(err)
	}
	return []byte(source)
}

// packages that the guide's Go may name.
var guidePackages = []string{
	"context", "errors", "fmt", "slices", "testing", "time",
	"google.golang.org/grpc/codes", "google.golang.org/grpc/status",
	"google.golang.org/protobuf/proto",
	"google.golang.org/protobuf/types/known/emptypb", "google.golang.org/protobuf/types/known/wrapperspb",
	module + "/client/goverseclient", module + "/goverseapi", module + "/goversetest", module + "/object", module + "/util/postgres",
	"counter_pb " + module + "/samples/counter/proto",
}

// imports of the packages that body uses.
func imports(body string) string {
	var used strings.Builder
	for _, p := range guidePackages {
		name, path, renamed := strings.Cut(p, " ")
		if !renamed {
			name, path = p[strings.LastIndex(p, "/")+1:], p
		}
		if regexp.MustCompile(`\b` + name + `\.[A-Z]`).MatchString(body) {
			fmt.Fprintf(&used, "\t%s %q\n", name, path)
		}
	}
	return "import (\n" + used.String() + ")\n\n"
}

// TestGuideLists holds the guide's first page against what is there.
func TestGuideLists(t *testing.T) {
	pages, err := filepath.Glob("docs/guide/*.md")
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile("docs/guide/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, link := range regexp.MustCompile(`(?m)^\d+\. \[[^]]+\]\(([a-z]+\.md)\)`).FindAllSubmatch(index, -1) {
		listed = append(listed, "docs/guide/"+string(link[1]))
	}
	slices.Sort(listed)
	pages = slices.DeleteFunc(pages, func(p string) bool { return p == "docs/guide/README.md" })
	if !slices.Equal(pages, listed) {
		t.Errorf("the guide has %v; its first page lists %v", pages, listed)
	}
}
