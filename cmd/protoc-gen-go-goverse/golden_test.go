package main

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// compiler is protoc and the plugins, built as script/compile-proto.sh builds them.
var compiler = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "goverse-golden-"); err != nil {
		return "", err
	}
	for _, b := range []struct{ in, what string }{
		{"../../tools", "./protoc"}, {".", "."}, {".", "google.golang.org/protobuf/cmd/protoc-gen-go"},
	} {
		cmd := exec.Command("go", "build", "-o", dir+"/", b.what)
		cmd.Dir = b.in
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, errors.Join(err, errors.New(string(out)))
		}
	}
	return dir, nil
})

// compile runs protoc with both plugins over files of testdata.
func compile(t *testing.T, out string, files ...string) (stderr string, ok bool) {
	t.Helper()
	dir, err := compiler()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-I", "testdata", "-I", "../../proto", "-out", out,
		"-plugin", filepath.Join(dir, "protoc-gen-go"), "-plugin", filepath.Join(dir, "protoc-gen-go-goverse")}
	cmd := exec.Command(filepath.Join(dir, "protoc"), append(args, files...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	err = cmd.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return said.String(), err == nil
}

// below lists the files below a folder that end so, relative to it.
func below(t *testing.T, root, suffix string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, suffix) {
			path, err = filepath.Rel(root, path)
			files = append(files, filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What is generated is frozen. The other tests compile and run it.
func TestGolden(t *testing.T) {
	out := t.TempDir()
	if *update {
		out = "testdata"
	}
	protos := below(t, "testdata", ".proto")
	protos = slices.DeleteFunc(protos, func(f string) bool { return !strings.HasPrefix(f, "good/") })
	if said, ok := compile(t, out, protos...); !ok {
		t.Fatal(said)
	}
	got, want := below(t, out, ".pb.go"), below(t, "testdata", ".pb.go")
	if !slices.Equal(got, want) {
		t.Errorf("generated were %q, want %q", got, want)
	}
	for _, f := range got {
		if text := read(t, filepath.Join(out, f)); text != read(t, filepath.Join("testdata", f)) {
			t.Errorf("%s differs from the golden one; if that is meant, run with -update. Generated was:\n%s", f, text)
		}
	}
}

// The protoc that everybody has makes the same of them, and prints the same errors.
func TestPlainProtoc(t *testing.T) {
	protoc, err := exec.LookPath("protoc")
	if err != nil {
		t.Skip("no protoc is on the path")
	}
	dir, err := compiler()
	if err != nil {
		t.Fatal(err)
	}
	plain := func(out string, files ...string) (said string, err error) {
		args := []string{"-I", "testdata", "-I", "../../proto", "--go-goverse_out=" + out, "--go-goverse_opt=paths=source_relative"}
		cmd := exec.Command(protoc, append(args, files...)...)
		cmd.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
		b, err := cmd.CombinedOutput()
		return string(b), err
	}
	for _, f := range below(t, "testdata/good", ".proto") {
		out := t.TempDir()
		said, err := plain(out, "good/"+f)
		if strings.HasPrefix(f, "edition/") && err != nil && !strings.Contains(said, "go-goverse") {
			t.Logf("this protoc knows no editions: %s", said)
			continue
		}
		if strings.Contains(said, "google/protobuf/") && strings.Contains(said, "File not found") {
			t.Skip("this protoc has come without google/protobuf/*.proto")
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", f, err, said)
			continue
		}
		golden := "testdata/good/" + strings.TrimSuffix(f, ".proto") + "_goverse.pb.go"
		if _, err := os.Stat(golden); errors.Is(err, fs.ErrNotExist) {
			if made := below(t, out, ".go"); len(made) > 0 {
				t.Errorf("of %s, which has no service, came %q", f, made)
			}
			continue
		}
		if text := read(t, filepath.Join(out, "good", strings.TrimSuffix(f, ".proto")+"_goverse.pb.go")); text != read(t, golden) {
			t.Errorf("of %s it makes\n%s", f, text)
		}
	}
	said, err := plain(t.TempDir(), "bad/streams.proto")
	want := strings.TrimPrefix(read(t, "testdata/bad/streams.txt"), "protoc: protoc-gen-go-goverse: ")
	if err == nil || !strings.Contains(said, strings.TrimSpace(want)) {
		t.Errorf("%v, and it said\n%s", err, said)
	}
}

// What cannot be an object's service is refused, and the error says what to do.
func TestGoldenErrors(t *testing.T) {
	for _, f := range below(t, "testdata/bad", ".proto") {
		t.Run(f, func(t *testing.T) {
			out := t.TempDir()
			said, ok := compile(t, out, "bad/"+f)
			if made := below(t, out, "_goverse.pb.go"); ok || len(made) > 0 {
				t.Fatalf("no error; made were %q", made)
			}
			golden := filepath.Join("testdata/bad", strings.TrimSuffix(f, ".proto")+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(said), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := read(t, golden); said != want {
				t.Errorf("the error is\n%swant\n%s", said, want)
			}
		})
	}
}
