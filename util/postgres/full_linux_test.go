package postgres

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/test/pg"
)

// small mounts a small disk, all of which is given away but for the room that is asked
// for; the returned function gives it back.
func small(t *testing.T, size, room int) (dir string, free func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "full") // unlike the test's own it can be entered by the server
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Skipf("NOT TESTED: PostgreSQL on a full disk (mounting one needs root: %v)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, size-room), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}

// incompressible is a state that takes its room on any disk.
func incompressible() []byte {
	b := make([]byte, 15_000)
	rand.Read(b)
	return []byte(`"` + base64.StdEncoding.EncodeToString(b) + `"`)
}

// fillUp saves objects until one is not taken, and says which that was and why.
func fillUp(t *testing.T, d *desk) (refused object.Save, kept map[string]string, why error) {
	t.Helper()
	kept = map[string]string{}
	for n := range 5000 {
		refused = d.save(fmt.Sprint(n), incompressible())
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		vs, err := d.Commit(ctx, d.Owner, []object.Save{refused})
		cancel()
		if err != nil {
			break
		}
		if vs[0].Kind != object.Committed {
			t.Fatal(vs[0])
		}
		kept[refused.Ref.ID] = string(refused.Data)
		why = err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, why = d.Commit(ctx, d.Owner, []object.Save{refused})
	if why == nil || len(kept) == 0 {
		t.Fatalf("%d saves fit, and then: %v", len(kept), why)
	}
	t.Logf("%d saves were acknowledged, and then: %v", len(kept), why)
	return refused, kept, why
}

func wantKept(t *testing.T, d *desk, kept map[string]string) {
	t.Helper()
	for id, data := range kept {
		r, err := d.Load(t.Context(), object.Ref{Type: "Desk", ID: id})
		if err != nil || r.Version != 1 || string(r.Data) != data {
			t.Fatalf("object %s: version %d, %d bytes, %v", id, r.Version, len(r.Data), err)
		}
	}
}

// The disk of the tables is full: saves are refused, surely not committed, by an error
// that says what to do; what was acknowledged can be read, the fence still holds, and
// with room the next try is taken.
func TestDiskFull(t *testing.T) {
	dir, free := small(t, 24<<20, 11<<20)
	s := pg.Private(t)
	if err := s.Own(dir); err != nil {
		t.Fatal(err)
	}
	admin := s.Database(t)
	sqlOf(t, admin, `CREATE TABLESPACE small LOCATION '`+dir+`'`, `CREATE DATABASE full_disk ENCODING 'UTF8' TEMPLATE template0 TABLESPACE small`)
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/full_disk"
	d := newDesk(t, NewPostgresPersistenceProvider(openURL(t, u.String())), 1)
	refused, kept, _ := fillUp(t, d)
	for range 3 {
		_, err := d.Commit(t.Context(), d.Owner, []object.Save{refused})
		if !errors.Is(err, object.ErrNotCommitted) || !strings.Contains(err.Error(), "disk is full: free some space") {
			t.Fatalf("on a full disk: %v", err)
		}
	}
	wantKept(t, d, kept)
	if lost, err := d.Confirm(t.Context(), d.Owner, []object.Fence{d.Fence}); err != nil || len(lost) > 0 {
		t.Fatal(lost, err)
	}
	free()
	d.must(t, refused)
	kept[refused.Ref.ID] = string(refused.Data)
	wantKept(t, d, kept)
}

// The disk of the server's log is full, of which PostgreSQL dies: the last save has an
// unknown outcome. When there is room and the server is back, the store goes on by
// itself, everything acknowledged is there, and the save that was repeated is there once.
func TestLogDiskFull(t *testing.T) {
	dir, free := small(t, 80<<20, 34<<20) // for two segments of the log
	s := pg.Private(t)
	wal := filepath.Join(s.Data(), "pg_wal")
	err := s.RestartAfter(func() error {
		inside := filepath.Join(dir, "pg_wal")
		if out, err := exec.Command("cp", "-a", wal, inside).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return errors.Join(s.Own(dir), os.RemoveAll(wal), os.Symlink(inside, wal))
	})
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, NewPostgresPersistenceProvider(openURL(t, s.Database(t))), 1)
	unsure, kept, why := fillUp(t, d)
	if !strings.Contains(s.Log(), "No space left on device") {
		t.Fatalf("it was not the disk: %v\n%s", why, s.Log())
	}
	free()
	if err := s.Restart(); err != nil { // as whoever runs it does
		t.Fatal(err)
	}
	v, tries, err := d.repeat(t.Context(), unsure)
	if err != nil || v.Kind != object.Committed || v.Version != 1 {
		t.Fatalf("the save of an unknown outcome, after %d tries: %+v, %v", tries, v, err)
	}
	kept[unsure.Ref.ID] = string(unsure.Data)
	wantKept(t, d, kept)
	d.must(t, d.save("another", incompressible()))
}
