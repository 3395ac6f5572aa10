package sqlite

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A real disk that is full, three megabytes large.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("NOT TESTED: a full file system (mounting one needs root: %v); TestFull has tested SQLite's own limit", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	k := newDesk(t, filepath.Join(dir, "goverse.db"))
	fillUp(t, k, func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	})
}
