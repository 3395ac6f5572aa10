package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDevIsRefused(t *testing.T) {
	for args, want := range map[string]string{
		"dev --nodes 0":                "--nodes 0: want 1 to 50",
		"dev --http-port 80":           "--http-port 80: want 1001 to",
		"dev a b":                      "flags of the program stand behind --",
		"dev a b -- c":                 "flags of the program stand behind --",
		"dev ./nowhere --data-dir DIR": "go build ./nowhere: ",
	} {
		args = strings.ReplaceAll(args, "DIR", t.TempDir())
		if out := runOn(t, noEtcd(t), nil, strings.Fields(args)...); out.code == 0 || !strings.Contains(out.err, want) || out.stdout != "" {
			t.Errorf("%s: %v", args, out)
		}
	}
}

// A change counts once the files stay the same, and those that no program is made of never.
func TestFiles(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module x")
	write("cmd/x/main.go", "package main")
	f := newFiles(filepath.Join(root, "cmd/x"), filepath.Join(root, "data"))
	for _, name := range []string{"data/goverse.db", ".git/index", "cmd/x/.main.go.swp", "cmd/x/main_test.go", "node_modules/a.js"} {
		write(name, "changed")
		for range 2 {
			if f.changed() {
				t.Errorf("%s counts", name)
			}
		}
	}
	for _, name := range []string{"cmd/x/main.go", "web/new.html", "go.mod"} {
		write(name, "changed "+name)
		if f.changed() {
			t.Errorf("%s counts before it stays the same", name)
		}
		if !f.changed() {
			t.Errorf("%s does not count", name)
		}
		if f.changed() {
			t.Errorf("%s counts twice", name)
		}
	}
	if err := os.Remove(filepath.Join(root, "web/new.html")); err != nil {
		t.Fatal(err)
	}
	if f.changed(); !f.changed() {
		t.Error("a file that is gone does not count")
	}
}

func TestChorus(t *testing.T) {
	var b bytes.Buffer
	c := newChorus(&b)
	one, two := c.voice("one"), c.voice("two")
	for _, text := range []string{"a", "b\nc", "", "\n\n"} {
		if n, err := one.Write([]byte(text)); n != len(text) || err != nil {
			t.Error(n, err)
		}
	}
	two.Write(bytes.Repeat([]byte("x"), maxLine+1))
	one.Write([]byte("end"))
	one.flush()
	two.flush()
	want := "one   | ab\none   | c\ntwo   | " + strings.Repeat("x", maxLine+1) + "\none   | end\n"
	if b.String() != want {
		t.Errorf("%.200q", b.String())
	}
}
