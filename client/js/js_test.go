package js

import (
	"io/fs"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// node is the Node.js to test with.
func node(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("NOT TESTED: the JavaScript client. There is no node in PATH; install Node.js 20 or newer.")
	}
	out, err := exec.Command(path, "-p", "process.versions.node").Output()
	major, _, _ := strings.Cut(string(out), ".")
	if n, _ := strconv.Atoi(major); err != nil || n < 20 {
		t.Skipf("NOT TESTED: the JavaScript client. %s is Node.js %s; it needs 20 or newer.", path, out)
	}
	return path
}

// The client against a gate that is played by the tests, and that misbehaves.
func TestClient(t *testing.T) {
	files, err := fs.Glob(os.DirFS("test"), "*.test.js")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	// Node.js 20 has its WebSocket behind a flag; later ones take the flag for granted.
	args := []string{"--experimental-websocket", "--test", "--test-reporter=spec"}
	for _, f := range files {
		args = append(args, path.Join("test", f))
	}
	cmd := exec.CommandContext(t.Context(), node(t), args...)
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "NOT TESTED") {
		t.Errorf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// What is served is whole: each import of a module is a module, and each module is
// imported. No other thing is imported: a page has nothing else.
func TestFilesAreWhole(t *testing.T) {
	imports := regexp.MustCompile(`(?m)^(?:import|export) [^;]*?from "([^"]+)";`)
	reached := map[string]bool{}
	var follow func(name string)
	follow = func(name string) {
		if reached[name] {
			return
		}
		reached[name] = true
		text, err := Files.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		for _, m := range imports.FindAllStringSubmatch(string(text), -1) {
			if !strings.HasPrefix(m[1], "./") {
				t.Errorf("%s imports %s", name, m[1])
				continue
			}
			follow(path.Join(path.Dir(name), m[1]))
		}
	}
	follow("client.js")
	err := fs.WalkDir(Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !reached[name] {
			t.Errorf("%s is imported by nobody", name)
		}
		return err
	})
	if err != nil || len(reached) < 5 {
		t.Error(err, reached)
	}
}

// The types say what a program may write, and what not.
func TestTypes(t *testing.T) {
	node := node(t)
	const compiler = "node_modules/typescript/bin/tsc"
	if _, err := os.Stat(compiler); err != nil {
		t.Skip("NOT TESTED: the types of the JavaScript client. There is no TypeScript; npm ci in client/js installs it.")
	}
	if out, err := exec.CommandContext(t.Context(), node, compiler, "--project", "test/types").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
