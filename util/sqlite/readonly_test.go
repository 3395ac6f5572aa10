//go:build unix

package sqlite

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user without rights, for a test that runs as root.
const nobody = 65534

// A file or a directory that this user may not write is refused, with advice. Root
// may write everything, so the attempt is a child's.
func TestNotWritable(t *testing.T) {
	dir, err := os.MkdirTemp("", "goverse-sqlite")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	good, content := written(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "test")
	for path, data := range map[string][]byte{binary: readFile(t, self), filepath.Join(dir, filepath.Base(good)): content} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, filepath.Base(good))
	for path, mode := range map[string]os.FileMode{binary: 0o555, file: 0o444, dir: 0o555} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	for path, advice := range map[string]string{
		file:                          "must be allowed to write the file and",
		filepath.Join(dir, "new.db"):  "must be allowed to write the file and",
		filepath.Join(dir, "no", "x"): "directory must exist",
	} {
		stderr := asNobody(t, binary, "count 1 "+path)
		t.Log(stderr)
		if !strings.Contains(stderr, path) || !strings.Contains(stderr, advice) {
			t.Errorf("%s: the child says %q, want the file's name and %q", filepath.Base(path), stderr, advice)
		}
	}
	if string(readFile(t, file)) != string(content) {
		t.Error("the file was changed")
	}
}

// asNobody runs a child that must fail, and returns what it complains of.
func asNobody(t *testing.T, binary, spec string) string {
	t.Helper()
	cmd := command(t, spec, binary)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	if err := cmd.Run(); err == nil {
		t.Errorf("%s: the child had no trouble", spec)
	}
	return stderr.String()
}
