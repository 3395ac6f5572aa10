package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/xiaonanln/goverse/object"
)

// disk stands between the package and the driver: it fails what a test plans.
type disk struct {
	mu     sync.Mutex
	plan   func(sql string) fate // nil: all is well
	dials  []string
	warned []string
	live   map[*diskConn]bool
}

// fate is what happens to one statement.
type fate struct {
	code   int // SQLite's result code; 0: nothing happens
	landed bool
}

type codeError int

func (e codeError) Error() string { return fmt.Sprintf("injected code %d", int(e)) }
func (e codeError) Code() int     { return int(e) }

func (d *disk) set(plan func(sql string) fate) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.plan = plan
}

// once fails the next statement that begins with prefix.
func (d *disk) once(prefix string, f fate) {
	done := false
	d.set(func(sql string) fate {
		if done || !strings.HasPrefix(sql, prefix) {
			return fate{}
		}
		done = true
		return f
	})
}

func (d *disk) fate(sql string) fate {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.plan == nil {
		return fate{}
	}
	return d.plan(sql)
}

func (d *disk) dial(ctx context.Context, dsn string) (rawConn, error) {
	if f := d.fate("DIAL " + dsn); f.code != 0 {
		return nil, codeError(f.code)
	}
	raw, err := dialDriver(ctx, dsn)
	if err != nil {
		return nil, err
	}
	c := &diskConn{raw, d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dials = append(d.dials, dsn)
	d.live[c] = true
	return c, nil
}

func (d *disk) warn(text string, _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.warned = append(d.warned, text)
}

type diskConn struct {
	rawConn
	d *disk
}

func (c *diskConn) Close() error {
	c.d.mu.Lock()
	delete(c.d.live, c)
	c.d.mu.Unlock()
	return c.rawConn.Close()
}

func (c *diskConn) PrepareContext(ctx context.Context, sql string) (driver.Stmt, error) {
	s, err := c.rawConn.PrepareContext(ctx, sql)
	if err != nil {
		return nil, err
	}
	return &diskStmt{s.(rawStmt), c.d, sql}, nil
}

type diskStmt struct {
	rawStmt
	d   *disk
	sql string
}

func (s *diskStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	f := s.d.fate(s.sql)
	if f.code == 0 {
		return s.rawStmt.ExecContext(ctx, args)
	}
	if f.landed {
		if _, err := s.rawStmt.ExecContext(ctx, args); err != nil {
			return nil, err
		}
	}
	return nil, codeError(f.code)
}

func (s *diskStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if f := s.d.fate(s.sql); f.code != 0 {
		return nil, codeError(f.code)
	}
	return s.rawStmt.QueryContext(ctx, args)
}

// faultyDesk is a desk on a disk that can fail.
func faultyDesk(t *testing.T) (*desk, *disk) {
	t.Helper()
	d := &disk{live: map[*diskConn]bool{}}
	db, err := open(t.Context(), Config{Path: tempPath(t), Readers: 2, Warn: d.warn}, d.dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = db.Close()
		if len(d.live) > 0 {
			t.Errorf("%d connections are still open", len(d.live))
		}
	})
	if err := db.InitSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := &desk{Provider: NewSQLitePersistenceProvider(db), Fence: object.Fence{Shard: 7, Epoch: 1, Owner: "n:1#desk"}, versions: map[string]uint64{}}
	if refused, err := k.Stamp(t.Context(), k.Owner, []object.Fence{k.Fence}); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	return k, d
}

func (d *disk) wantRepaired(t *testing.T, db *DB) {
	t.Helper()
	if db.suspect.Load() != nil {
		t.Error("the file is still suspect")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.warned) != 2 || !strings.Contains(d.warned[0], "suspect") || !strings.Contains(d.warned[1], "intact") {
		t.Errorf("warned of %q, want suspect, then intact", d.warned)
	}
}

// A commit waits for another process's lock, as long as it may and no longer.
func TestWaitForTheLock(t *testing.T) {
	k, d := faultyDesk(t)
	k.db.cfg.BusyTimeout = 50 * time.Millisecond
	saves := []object.Save{k.save("a", state(1))}
	locked := func(looks int) {
		d.set(func(sql string) fate {
			if looks == 0 || !strings.HasPrefix(sql, "BEGIN") {
				return fate{}
			}
			looks--
			return fate{code: sqlite3.SQLITE_BUSY}
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, ctx := range map[string]context.Context{"the lock stays": t.Context(), "the caller is gone": gone} {
		locked(-1)
		if vs, err := k.Commit(ctx, k.Owner, saves); !errors.Is(err, object.ErrNotCommitted) && !errors.Is(err, context.Canceled) || vs != nil {
			t.Errorf("%s: %+v, %v", name, vs, err)
		}
		if k.db.suspect.Load() != nil {
			t.Errorf("%s: the file is suspect", name)
		}
	}
	locked(5)
	k.must(t, saves)
}

func TestFailedCommit(t *testing.T) {
	for _, c := range []struct {
		name     string
		sql      string
		fate     fate
		unknown  bool // else surely not committed
		suspects bool
	}{
		{"fsync fails, nothing landed", "COMMIT", fate{sqlite3.SQLITE_IOERR_FSYNC, false}, true, true},
		{"fsync fails, all landed", "COMMIT", fate{sqlite3.SQLITE_IOERR_FSYNC, true}, true, true},
		{"shared memory cannot grow", "COMMIT", fate{sqlite3.SQLITE_IOERR_SHMSIZE, true}, true, true},
		{"disk full at the end", "COMMIT", fate{sqlite3.SQLITE_FULL, false}, false, false},
		{"disk full in the middle", "INSERT INTO goverse_objects", fate{sqlite3.SQLITE_FULL, false}, false, false},
		{"read error in the middle", "INSERT INTO goverse_objects", fate{sqlite3.SQLITE_IOERR_READ, false}, false, true},
		{"corruption in the middle", "INSERT INTO goverse_objects", fate{sqlite3.SQLITE_CORRUPT, false}, false, true},
		{"no memory", "SAVEPOINT", fate{sqlite3.SQLITE_NOMEM, false}, false, true},
		{"lock fails", "BEGIN", fate{sqlite3.SQLITE_IOERR_LOCK, false}, false, true},
		{"release fails", "RELEASE", fate{sqlite3.SQLITE_IOERR_WRITE, false}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, d := faultyDesk(t)
			saves := []object.Save{k.save("a", state(1)), k.save("b", state(2))}
			d.once(c.sql, c.fate)
			vs, err := k.Commit(t.Context(), k.Owner, saves)
			if err == nil || vs != nil {
				t.Fatalf("acknowledged: %+v", vs)
			}
			if errors.Is(err, object.ErrNotCommitted) == c.unknown {
				t.Fatalf("outcome unknown: want %v, got %v", c.unknown, err)
			}
			if suspect := k.db.suspect.Load() != nil; suspect != c.suspects {
				t.Fatalf("suspect is %v, want %v", suspect, c.suspects)
			}
			if !c.unknown && !c.suspects {
				for _, s := range saves {
					if r, err := k.Load(t.Context(), s.Ref); err != nil || r.Version != 0 {
						t.Fatalf("%s after ErrNotCommitted: %+v, %v", s.Ref, r, err)
					}
				}
			}
			k.must(t, saves) // repeated unchanged: that settles it
			for _, s := range saves {
				if r, err := k.Load(t.Context(), s.Ref); err != nil || r.Version != 1 {
					t.Fatalf("%s: %+v, %v", s.Ref, r, err)
				}
			}
			if c.suspects {
				d.wantRepaired(t, k.db)
			} else if len(d.warned) > 0 {
				t.Errorf("warned of %q", d.warned)
			}
		})
	}
}

// While the file is suspect, no connection that was open then is used again.
func TestSuspectFileIsReopened(t *testing.T) {
	k, d := faultyDesk(t)
	k.must(t, []object.Save{k.save("a", state(1))})
	if _, err := k.Load(t.Context(), object.Ref{Type: "Bench", ID: "a"}); err != nil {
		t.Fatal(err)
	}
	old := map[*diskConn]bool{}
	for c := range d.live {
		old[c] = true
	}
	if len(old) < 2 {
		t.Fatalf("%d connections, want a writer and a reader", len(old))
	}
	d.once("COMMIT", fate{sqlite3.SQLITE_IOERR_FSYNC, true})
	if _, err := k.Commit(t.Context(), k.Owner, []object.Save{k.save("b", state(1))}); err == nil {
		t.Fatal("acknowledged after a failed fsync")
	}
	checked := false
	d.set(func(sql string) fate {
		checked = checked || strings.HasPrefix(sql, "PRAGMA integrity_check")
		return fate{}
	})
	if _, err := k.Load(t.Context(), object.Ref{Type: "Bench", ID: "a"}); err != nil {
		t.Fatal(err)
	}
	for c := range d.live {
		if old[c] {
			t.Error("a connection from before the failure is still open")
		}
	}
	if !checked {
		t.Error("the file was not checked")
	}
}

func TestReadErrorMakesSuspect(t *testing.T) {
	k, d := faultyDesk(t)
	k.must(t, []object.Save{k.save("a", state(1))})
	d.once("SELECT data", fate{code: sqlite3.SQLITE_IOERR_READ})
	ref := object.Ref{Type: "Bench", ID: "a"}
	if r, err := k.Load(t.Context(), ref); err == nil {
		t.Fatalf("loaded %+v", r)
	}
	if k.db.suspect.Load() == nil {
		t.Fatal("not suspect after a read error")
	}
	if r, err := k.Load(t.Context(), ref); err != nil || r.Version != 1 {
		t.Fatal(r, err)
	}
	d.wantRepaired(t, k.db)
}

// A checkpoint that fails takes nothing back, but nothing more is acknowledged
// before the file was opened again.
func TestFailedCheckpoint(t *testing.T) {
	k, d := faultyDesk(t)
	d.once("PRAGMA wal_checkpoint(PASSIVE)", fate{code: sqlite3.SQLITE_IOERR_FSYNC})
	big := []byte(`"` + strings.Repeat("x", 4<<20-2) + `"`) // 1024 pages
	k.must(t, []object.Save{k.save("big", big)})
	if k.db.suspect.Load() == nil {
		t.Fatal("the failed checkpoint went unnoticed")
	}
	k.must(t, []object.Save{k.save("big", state(1))})
	d.wantRepaired(t, k.db)
}

func TestRepairFails(t *testing.T) {
	k, d := faultyDesk(t)
	first := k.save("a", state(1))
	broken := func(sql string) fate {
		if sql == "COMMIT" || strings.HasPrefix(sql, "DIAL") {
			return fate{code: sqlite3.SQLITE_IOERR_FSYNC}
		}
		return fate{}
	}
	d.set(broken)
	for i := range 3 {
		if vs, err := k.Commit(t.Context(), k.Owner, []object.Save{first}); err == nil {
			t.Fatalf("try %d acknowledged %+v on a broken disk", i, vs)
		} else if wantNot := i > 0; errors.Is(err, object.ErrNotCommitted) != wantNot {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	d.set(nil)
	k.must(t, []object.Save{first})
	d.wantRepaired(t, k.db)
}

// A file that turns out to be damaged is not used again.
func TestRepairFindsDamage(t *testing.T) {
	k, d := faultyDesk(t)
	d.set(func(sql string) fate {
		switch {
		case sql == "COMMIT":
			return fate{code: sqlite3.SQLITE_IOERR_FSYNC}
		case strings.HasPrefix(sql, "PRAGMA integrity_check"):
			return fate{code: sqlite3.SQLITE_CORRUPT}
		}
		return fate{}
	})
	if _, err := k.Commit(t.Context(), k.Owner, []object.Save{k.save("a", state(1))}); err == nil {
		t.Fatal("acknowledged")
	}
	if _, err := k.Load(t.Context(), object.Ref{Type: "Bench", ID: "a"}); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	d.set(nil)
	dials := len(d.dials)
	for range 2 {
		_, err := k.Commit(t.Context(), k.Owner, []object.Save{k.save("a", state(1))})
		if !errors.Is(err, ErrDamaged) || !errors.Is(err, object.ErrNotCommitted) || !strings.Contains(err.Error(), k.db.cfg.Path) {
			t.Fatal(err)
		}
	}
	if len(d.dials) != dials {
		t.Error("a damaged file was opened again")
	}
}

// A repair may take longer than any call has time; it goes on by itself.
func TestRepairOutlivesItsCaller(t *testing.T) {
	k, d := faultyDesk(t)
	d.once("COMMIT", fate{code: sqlite3.SQLITE_IOERR_FSYNC})
	save := k.save("a", state(1))
	if _, err := k.Commit(t.Context(), k.Owner, []object.Save{save}); err == nil {
		t.Fatal("acknowledged")
	}
	started, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.set(func(sql string) fate {
		if strings.HasPrefix(sql, "DIAL") {
			once.Do(func() { close(started) })
			<-release
		}
		return fate{}
	})
	short, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	if _, err := k.Commit(short, k.Owner, []object.Save{save}); !errors.Is(err, context.Canceled) || !errors.Is(err, object.ErrNotCommitted) {
		t.Fatal(err)
	}
	close(release)
	k.must(t, []object.Save{save})
	d.wantRepaired(t, k.db)
}

// Close ends a repair that is under way.
func TestCloseDuringRepair(t *testing.T) {
	k, d := faultyDesk(t)
	d.set(func(sql string) fate {
		if sql == "COMMIT" || strings.HasPrefix(sql, "DIAL") {
			return fate{code: sqlite3.SQLITE_IOERR_FSYNC}
		}
		return fate{}
	})
	if _, err := k.Commit(t.Context(), k.Owner, []object.Save{k.save("a", state(1))}); err == nil {
		t.Fatal("acknowledged")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { _, _ = k.Load(t.Context(), object.Ref{Type: "Bench", ID: "a"}) })
	}
	if err := k.db.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, err := k.Load(t.Context(), object.Ref{Type: "Bench", ID: "a"}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// A caller that waits for the writer gives up when its time is over, and then
// nothing was written.
func TestWriterIsTaken(t *testing.T) {
	k, _ := faultyDesk(t)
	w, err := k.db.takeWriter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = k.Commit(ctx, k.Owner, []object.Save{k.save("a", state(1))})
	if !errors.Is(err, object.ErrNotCommitted) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	k.db.putWriter(w)
	delete(k.versions, "a")
	k.must(t, []object.Save{k.save("a", state(1))})
}

// Contexts end at any instant, in the middle of taking the lock too. An error means
// that nothing was written, and the connection is left without a transaction.
func TestCanceledAtAnyTime(t *testing.T) {
	k, _ := faultyDesk(t)
	committed := 0
	for i := range 400 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(300))*time.Microsecond)
		save := k.save("a", state(i))
		vs, err := k.Commit(ctx, k.Owner, []object.Save{save})
		cancel()
		switch {
		case err == nil && vs[0].Kind == object.Committed:
			k.versions["a"] = vs[0].Version
			committed++
		case err == nil || !errors.Is(err, object.ErrNotCommitted) || !errors.Is(err, context.DeadlineExceeded):
			t.Fatal(vs, err)
		}
		if r, err := k.Load(t.Context(), save.Ref); err != nil || r.Version != k.versions["a"] {
			t.Fatalf("round %d: stored is version %d, %v, want %d", i, r.Version, err, k.versions["a"])
		}
	}
	if committed == 0 || committed == 400 {
		t.Logf("%d of 400 commits went through: nothing was interrupted", committed)
	}
	if k.db.suspect.Load() != nil {
		t.Error("a cancelled call made the file suspect")
	}
	k.must(t, []object.Save{k.save("a", state(1))})
}
