package sqlite

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql/driver"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/object"
)

// script runs SQL on a file through a connection of its own.
func script(t *testing.T, path, sql string) {
	t.Helper()
	raw, err := dialDriver(t.Context(), Config{Path: path}.withDefaults().dsn(creating))
	if err != nil {
		t.Fatal(err)
	}
	c := newConn(raw)
	if err := errors.Join(c.script(t.Context(), sql), c.close()); err != nil {
		t.Fatal(err)
	}
}

// written is a file with 500 objects, closed.
func written(t *testing.T) (path string, content []byte) {
	t.Helper()
	path = tempPath(t)
	db := openDB(t, path)
	k := &desk{Provider: NewSQLitePersistenceProvider(db), Fence: object.Fence{Shard: 7, Epoch: 1, Owner: "n"}, versions: map[string]uint64{}}
	if _, err := k.Stamp(t.Context(), k.Owner, []object.Fence{k.Fence}); err != nil {
		t.Fatal(err)
	}
	var saves []object.Save
	for i := range 500 {
		saves = append(saves, k.save(fmt.Sprint(i), state(i)))
	}
	k.must(t, saves)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path, readFile(t, path)
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A file that cannot be used is refused by name, with advice, and is left as it is.
func TestBadFiles(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, good []byte) []byte
		want  error
		text  string
	}{
		{"text", func(*testing.T, []byte) []byte { return []byte("hello, this is no database\n") }, ErrDamaged, "move it away"},
		{"random", func(*testing.T, []byte) []byte { return bytes.Repeat([]byte{0xa7, 3, 0x55, 0}, 5000) }, ErrDamaged, "move it away"},
		{"header overwritten", func(_ *testing.T, b []byte) []byte { copy(b, "NOT SQLITE"); return b }, ErrDamaged, "move it away"},
		{"cut in half", func(_ *testing.T, b []byte) []byte { return b[:len(b)/2/4096*4096] }, ErrDamaged, "backup"},
		{"cut in a page", func(_ *testing.T, b []byte) []byte { return b[:len(b)-1000] }, ErrDamaged, "backup"},
		{"garbage in the middle", func(_ *testing.T, b []byte) []byte {
			copy(b[len(b)/2/4096*4096:], bytes.Repeat([]byte{0xee}, 8192))
			return b
		}, ErrDamaged, "backup"},
		{"zeroes at the end", func(_ *testing.T, b []byte) []byte { clear(b[len(b)-4096*3:]); return b }, ErrDamaged, "backup"},
		{"schema page spoiled", func(_ *testing.T, b []byte) []byte { copy(b[100:], bytes.Repeat([]byte{0xee}, 2000)); return b }, ErrDamaged, "backup"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, good := written(t)
			bad := c.spoil(t, good)
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, path, c.want, c.text)
			if !bytes.Equal(readFile(t, path), bad) {
				t.Error("the file was changed")
			}
		})
	}
}

func wantRefused(t *testing.T, path string, want error, text string) {
	t.Helper()
	db, err := Open(t.Context(), Config{Path: path})
	if err == nil {
		_ = db.Close()
		t.Fatal("opened")
	}
	if want != nil && !errors.Is(err, want) {
		t.Errorf("the error is no %q: %v", want, err)
	}
	if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), text) {
		t.Errorf("the error does not name the file, or does not say %q: %v", text, err)
	}
}

func TestNewerSchema(t *testing.T) {
	path, _ := written(t)
	script(t, path, `UPDATE goverse_meta SET v='99' WHERE k='schema_version'`)
	before := readFile(t, path)
	wantRefused(t, path, ErrNewerSchema, "99")
	if !bytes.Equal(readFile(t, path), before) {
		t.Error("the file was changed")
	}
	script(t, path, `UPDATE goverse_meta SET v='soon' WHERE k='schema_version'`)
	wantRefused(t, path, ErrDamaged, "soon")
	script(t, path, fmt.Sprintf(`UPDATE goverse_meta SET v='%d' WHERE k='schema_version';`, len(migrations))+` DELETE FROM goverse_meta WHERE k='store_id'`)
	wantRefused(t, path, ErrDamaged, "store_id")
}

func TestBadPaths(t *testing.T) {
	dir := t.TempDir()
	wantRefused(t, dir, nil, "directory")
	wantRefused(t, filepath.Join(dir, "missing", "goverse.db"), nil, "directory must exist")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, filepath.Join(file, "goverse.db"), nil, "not a directory")
	for _, c := range []Config{{}, {Path: ":memory:"}, {Path: "file:x"}, {Path: "a\x00b"}, {Path: "x", Readers: -1}, {Path: "x", BusyTimeout: -1}} {
		if _, err := Open(t.Context(), c); err == nil {
			t.Errorf("%+v was opened", c)
		}
	}
}

// Names that mean something in a URI are just names.
func TestOddPaths(t *testing.T) {
	for _, name := range []string{"a b.db", "a?mode=memory.db", "a%20b.db", "a#b.db", "ä😀.db", "a&_query_only=1.db", "%.db"} {
		path := filepath.Join(t.TempDir(), name)
		k := newDesk(t, path)
		k.must(t, []object.Save{k.save("x", state(1))})
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A link to the file is as good as the file, whether it is there yet or not.
func TestSymlink(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.db")
	if err := os.Symlink(filepath.Join("real", "goverse.db"), link); err != nil {
		t.Skipf("NOT TESTED: links to a database file (%v)", err)
	}
	for version := range uint64(2) {
		k := newDesk(t, link)
		k.versions["x"] = version
		k.next = version // another save id each time
		k.must(t, []object.Save{k.save("x", state(1))})
		if err := k.db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWithoutSchema(t *testing.T) {
	db, err := Open(t.Context(), Config{Path: tempPath(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p := NewSQLitePersistenceProvider(db)
	if _, err := p.StoreID(t.Context()); !errors.Is(err, ErrNoSchema) {
		t.Error(err)
	}
	if _, err := p.Load(t.Context(), object.Ref{Type: "T", ID: "x"}); !errors.Is(err, ErrNoSchema) {
		t.Error(err)
	}
	if err := p.SaveObject(t.Context(), "T", "x", []byte("{}")); !errors.Is(err, ErrNoSchema) || !errors.Is(err, object.ErrNotCommitted) {
		t.Error(err)
	}
}

// What was saved is there when the file is opened again, under the same identity.
func TestReopen(t *testing.T) {
	path, _ := written(t)
	var ids []string
	for range 2 {
		db, err := Open(t.Context(), Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		p := NewSQLitePersistenceProvider(db)
		for range 2 {
			if err := db.InitSchema(t.Context()); err != nil {
				t.Fatal(err)
			}
			id, err := p.StoreID(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		if r, err := p.Load(t.Context(), object.Ref{Type: "Bench", ID: "499"}); err != nil || r.Version != 1 || !bytes.Equal(r.Data, state(499)) {
			t.Fatal(r, err)
		}
		for range 2 {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.Load(t.Context(), object.Ref{Type: "Bench", ID: "1"}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := p.SaveObject(t.Context(), "T", "x", []byte("{}")); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
	for _, id := range ids {
		if id != ids[0] || len(id) != 32 {
			t.Fatalf("store ids %q", ids)
		}
	}
}

// The connections keep the promises that are made about them.
func TestPragmas(t *testing.T) {
	db := openDB(t, tempPath(t))
	w, err := db.takeWriter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer db.putWriter(w)
	r, err := db.takeReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer db.putReader(r, nil)
	for _, c := range []struct {
		c            *conn
		pragma, want string
	}{
		{w, "journal_mode", "wal"}, {w, "synchronous", "2"}, {w, "busy_timeout", "0"}, {w, "wal_autocheckpoint", "0"},
		{w, "fullfsync", "1"}, {w, "checkpoint_fullfsync", "1"}, {w, "query_only", "0"},
		{r, "journal_mode", "wal"}, {r, "busy_timeout", "5000"}, {r, "query_only", "1"}, {r, "wal_autocheckpoint", "0"},
	} {
		if got, err := c.c.text(t.Context(), "PRAGMA "+c.pragma); err != nil || got != c.want {
			t.Errorf("%s is %q, %v, want %q", c.pragma, got, err, c.want)
		}
	}
	if err := r.script(t.Context(), `DELETE FROM goverse_objects`); err == nil {
		t.Error("a reader can write")
	}
}

// A driver that does not do as it is told is found out.
func TestSynchronousIsChecked(t *testing.T) {
	lax := func(ctx context.Context, dsn string) (rawConn, error) {
		return dialDriver(ctx, strings.Replace(dsn, "_synchronous=FULL", "_synchronous=NORMAL", 1))
	}
	if db, err := open(t.Context(), Config{Path: tempPath(t)}, lax); err == nil {
		_ = db.Close()
		t.Fatal("opened with synchronous=NORMAL")
	} else if !strings.Contains(err.Error(), "FULL") {
		t.Error(err)
	}
}

var update = flag.Bool("update", false, "write testdata/schema.sql anew")

// The schema outlives the program: it changes by a new migration only, and with it
// testdata/schema.sql and docs/format/sql.md.
func TestSchemaIsFrozen(t *testing.T) {
	const golden = "testdata/schema.sql"
	got := schemaOf(t, openDB(t, tempPath(t)))
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(readFile(t, golden)); got != want {
		t.Errorf("the schema is not %s any more:\n%s", golden, got)
	}
	doc := string(readFile(t, "../../docs/format/sql.md"))
	for line := range strings.Lines(got) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "--") && !strings.Contains(doc, line) {
			t.Errorf("docs/format/sql.md does not have %q", line)
		}
	}
}

func schemaOf(t *testing.T, db *DB) string {
	t.Helper()
	w, err := db.takeWriter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer db.putWriter(w)
	version, err := schemaVersion(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "-- schema version %d\n", version)
	err = w.query(t.Context(), func(row []driver.Value) error {
		fmt.Fprintf(&b, "\n%s;\n", row[0])
		return nil
	}, `SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid`)
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// An old file gets what is missing and keeps what it has.
func TestMigration(t *testing.T) {
	path, _ := written(t)
	had := migrations
	t.Cleanup(func() { migrations = had })
	migrations = append(had[:len(had):len(had)], `CREATE TABLE goverse_later (x INTEGER) STRICT`)
	db, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p := NewSQLitePersistenceProvider(db)
	ref := object.Ref{Type: "Bench", ID: "1"}
	if _, err := p.Load(t.Context(), ref); !errors.Is(err, ErrNoSchema) {
		t.Errorf("an old file was used before InitSchema: %v", err)
	}
	for range 2 {
		if err := db.InitSchema(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := p.Load(t.Context(), ref); err != nil || r.Version != 1 {
		t.Error(r, err)
	}
	if !strings.Contains(schemaOf(t, db), "goverse_later") {
		t.Error("the new table is missing")
	}

	// A step that fails leaves nothing of itself.
	migrations = append(migrations, `CREATE TABLE goverse_half (x INTEGER) STRICT; CREATE TABLE nonsense`)
	if err := db.InitSchema(t.Context()); err == nil {
		t.Fatal("nonsense was made")
	}
	migrations = migrations[:len(had)+1]
	if err := db.InitSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(schemaOf(t, db), "goverse_half") {
		t.Error("half a step was kept")
	}
}

// A file that the first version of the tables was made for, by the program of that
// time: everything in it is there afterwards, and what is new works.
func TestFirstSchema(t *testing.T) {
	const storeID = "4f2bbba29e6f2e9a864ab062dab9274a"
	path, owner := tempPath(t), "node:1#a"
	unpack(t, "testdata/version1.db.gz", path)
	before := readFile(t, path)
	db, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	p := NewSQLitePersistenceProvider(db)
	if _, err := p.StoreID(t.Context()); !errors.Is(err, ErrNoSchema) {
		t.Errorf("an old file was used before InitSchema: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readFile(t, path), before) {
		t.Error("the file was changed without InitSchema")
	}
	db = openDB(t, path)
	p = NewSQLitePersistenceProvider(db)
	if id, err := p.StoreID(t.Context()); err != nil || id != storeID {
		t.Errorf("the store is %q, error %v, and was %q", id, err, storeID)
	}
	for id, want := range map[string]object.Record{
		"kept": {Version: 2, Data: []byte(`{"n": 2}`)}, "gone": {Version: 2}, "tool": {Version: 1, Data: []byte(`"tool"`)},
	} {
		r, err := p.Load(t.Context(), object.Ref{Type: "Old", ID: id})
		if err != nil || r.Version != want.Version || !bytes.Equal(r.Data, want.Data) || r.Created.IsZero() {
			t.Errorf("%s is %+v, error %v, want %+v", id, r, err, want)
		}
	}
	fences := []object.Fence{{Shard: 7, Epoch: 3}, {Shard: 8, Epoch: 1}}
	if lost, err := p.Confirm(t.Context(), owner, fences); err != nil || len(lost) > 0 {
		t.Errorf("lost %+v, error %v", lost, err)
	}
	save := object.Save{
		Ref: object.Ref{Type: "Old", ID: "kept"}, Data: []byte(`{"n": 3}`), Base: 2, Shard: 7, Epoch: 3, SaveID: [16]byte{9},
		Calls:   []object.CallRecord{{ID: "c", Status: object.CallDone, Keep: time.Hour}},
		Effects: []object.Effect{{ID: "e", Kind: object.EffectPush, Target: object.Ref{ID: "client"}}},
	}
	if vs, err := p.Commit(t.Context(), owner, []object.Save{save}); err != nil || vs[0].Kind != object.Committed {
		t.Error(vs, err)
	}
	if list, err := p.List(t.Context(), "Old", "", 10); err != nil || len(list) != 2 {
		t.Error(list, err)
	}
}

func unpack(t *testing.T, from, to string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(readFile(t, from)))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Somebody deletes or exchanges the files of a running program.
func TestFilesTakenAway(t *testing.T) {
	for _, c := range []struct {
		name   string
		meddle func(path string) error
		again  bool // the store is usable afterwards, and has lost nothing
	}{
		{"database deleted", os.Remove, false},
		{"database renamed", func(path string) error { return os.Rename(path, path+".old") }, false},
		{"database exchanged", func(path string) error {
			if err := os.Rename(path, path+".old"); err != nil {
				return err
			}
			return os.WriteFile(path, nil, 0o600)
		}, false},
		{"wal deleted", func(path string) error { return os.Remove(path + "-wal") }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := tempPath(t)
			k := newDesk(t, path)
			k.must(t, []object.Save{k.save("a", state(1))})
			if err := c.meddle(path); err != nil {
				t.Fatal(err)
			}
			save := k.save("a", state(2))
			if vs, err := k.Commit(t.Context(), k.Owner, []object.Save{save}); err == nil {
				t.Fatalf("acknowledged %+v into a file that nobody will find", vs)
			} else if !errors.Is(err, object.ErrNotCommitted) {
				t.Errorf("noticed too late: %v", err)
			}
			if c.again {
				k.must(t, []object.Save{save})
				if r, err := k.Load(t.Context(), save.Ref); err != nil || r.Version != 2 {
					t.Fatal(r, err)
				}
				return
			}
			for range 2 {
				if vs, err := k.Commit(t.Context(), k.Owner, []object.Save{save}); err == nil {
					t.Fatalf("acknowledged %+v", vs)
				} else if !strings.Contains(err.Error(), path) {
					t.Error(err)
				}
			}
		})
	}
}

// The WAL is copied into the database often enough to stay small.
func TestWALStaysSmall(t *testing.T) {
	path := tempPath(t)
	k := newDesk(t, path)
	data := []byte(`"` + strings.Repeat("x", 256<<10) + `"`)
	for i := range 60 {
		k.must(t, []object.Save{k.save(fmt.Sprint(i%10), data)})
	}
	info, err := os.Stat(path + "-wal")
	if err != nil || info.Size() > 8<<20 {
		t.Fatalf("after 15 MiB of saves the WAL has %d bytes, %v", info.Size(), err)
	}
}

// Tombstones are collected a thousand at a time.
func TestCollectIsBounded(t *testing.T) {
	k := newDesk(t, tempPath(t))
	for _, data := range [][]byte{state(1), nil} {
		var saves []object.Save
		for i := range 1500 {
			saves = append(saves, k.save(fmt.Sprint(i), data))
		}
		k.must(t, saves)
	}
	for _, want := range []int{1000, 500, 0} {
		if n, err := k.CollectTombstones(t.Context(), k.Fence, -time.Minute, nil); err != nil || n != want {
			t.Fatalf("collected %d, %v, want %d", n, err, want)
		}
	}
}

// What a tool has made belongs to no shard until a holder deletes it.
func TestCollectWhatAToolMade(t *testing.T) {
	k := newDesk(t, tempPath(t))
	if err := k.SaveObject(t.Context(), "Bench", "x", state(1)); err != nil {
		t.Fatal(err)
	}
	k.versions["x"] = 1
	k.must(t, []object.Save{k.save("x", nil)})
	if n, err := k.CollectTombstones(t.Context(), k.Fence, -time.Minute, nil); err != nil || n != 1 {
		t.Fatalf("collected %d, %v, want 1", n, err)
	}
}
