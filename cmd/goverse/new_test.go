package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What new makes is built and tested by Go itself, and nothing of it is left to do.
func TestNew(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program: not with -short")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "shop")
	out := runOn(t, noEtcd(t), nil, "new", "example.com/shop/greeter", "--dir", dir, "--goverse", root)
	if out.code != 0 || !strings.Contains(out.stdout, "go run .\n") {
		t.Fatal(out)
	}
	for _, args := range []string{"vet ./...", "test ./..."} {
		c := exec.Command("go", strings.Fields(args)...)
		c.Dir = dir
		c.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOPROXY=off", "GOWORK=off")
		if text, err := c.CombinedOutput(); err != nil {
			t.Errorf("go %s: %v\n%s", args, err, text)
		}
	}
	for _, name := range []string{"main.go", "main_test.go", "proto/greeter.proto", "README.md", "go.mod"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.Contains(string(text), "starter") || strings.Contains(string(text), "NAME") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	if out := runOn(t, noEtcd(t), nil, "new", "greeter", "--dir", dir, "--goverse", root); out.code != 1 || !strings.Contains(out.err, "is there and not empty") {
		t.Error(out)
	}
}

func TestNewIsRefused(t *testing.T) {
	for args, want := range map[string]string{
		"new": "the module's name is missing", "new ../x": "want letters", "new a//b": "want letters", "new Ä": "want letters",
		"new greeter --goverse testdata": "want a directory with the source of", "new greeter": "name the directory of that source with --goverse",
	} {
		out := runOn(t, noEtcd(t), nil, strings.Fields(args)...)
		if out.code == 0 || !strings.Contains(out.err, want) || out.stdout != "" {
			t.Errorf("%s: %v", args, out)
		}
	}
	if _, err := os.Stat("greeter"); err == nil {
		t.Error("a refused new made a directory")
	}
}
