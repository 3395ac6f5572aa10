package sqlite

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/objecttest"
)

// A test binary that is started with this variable is a child: "<mode> <n> <path>".
const childVar = "GOVERSE_SQLITE_CHILD"

// kept is a fence that the parent has stamped, for a child that cannot.
var kept = object.Fence{Shard: 1, Epoch: 1, Owner: "n:1#kept"}

func child(spec string) error {
	mode, rest, _ := strings.Cut(spec, " ")
	arg, path, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	ctx := context.Background()
	db, err := Open(ctx, Config{Path: path})
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.InitSchema(ctx); err != nil {
		return err
	}
	p := NewSQLitePersistenceProvider(db)
	switch mode {
	case "count": // in a shard of its own
		f, err := takeShard(ctx, p, 2)
		return errors.Join(err, count(p, f, "x", n, os.Stdout))
	case "keep": // in the shard that the parent has stamped
		return count(p, kept, "x", n, os.Stdout)
	case "share": // beside others
		id, err := p.StoreID(ctx)
		fmt.Println("store", id)
		f, err2 := takeShard(ctx, p, 10+n)
		return errors.Join(err, err2, count(p, f, fmt.Sprint("share", n), 40, os.Stdout))
	default:
		return fmt.Errorf("unknown mode %q", mode)
	}
}

// count saves an object until it is at version n and prints each acknowledgement. A
// save that fails is repeated unchanged, a few times in a row.
func count(p *Provider, f object.Fence, id string, n int, out io.Writer) error {
	ctx, ref := context.Background(), object.Ref{Type: "Count", ID: id}
	r, err := p.Load(ctx, ref)
	if err != nil {
		return err
	}
	for v := r.Version; v < uint64(n); v++ {
		if err := countOne(ctx, p, f, ref, v, out); err != nil {
			return err
		}
		fmt.Fprintln(out, "ack", v+1)
	}
	return nil
}

func countOne(ctx context.Context, p *Provider, f object.Fence, ref object.Ref, v uint64, out io.Writer) error {
	save := object.Save{Ref: ref, Data: fmt.Appendf(nil, "%d", v+1), Base: v, Shard: f.Shard, Epoch: f.Epoch}
	save.SaveID[0] = 1
	for i := range 8 {
		save.SaveID[i+8] = byte(v >> (8 * i))
	}
	var errs []error
	for range 5 {
		vs, err := p.Commit(ctx, f.Owner, []object.Save{save})
		if err == nil && vs[0].Kind == object.Committed && vs[0].Version == v+1 {
			return nil
		}
		if err == nil {
			return fmt.Errorf("version %d: %+v", v, vs[0])
		}
		fmt.Fprintln(out, "fail", err)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func takeShard(ctx context.Context, p *Provider, shard int) (object.Fence, error) {
	f := object.Fence{Shard: shard, Epoch: 1, Owner: "n:1#" + strconv.Itoa(os.Getpid())}
	for {
		refused, err := p.Stamp(ctx, f.Owner, []object.Fence{f})
		if err != nil || len(refused) == 0 {
			return f, err
		}
		f.Epoch = refused[0].Epoch + 1
	}
}

// offspring is a running child and what it has printed.
type offspring struct {
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	stderr strings.Builder // complete after cmd.Wait
}

func command(t *testing.T, spec string, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), childVar+"="+spec)
	return cmd
}

func spawn(t *testing.T, spec string, with ...string) *offspring {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, spec, append(with, self)...)
	o := &offspring{cmd: cmd}
	cmd.Stderr = &o.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o.lines = bufio.NewScanner(out)
	return o
}

// acks reads acknowledgements until there are n, or the child has ended, and returns
// the last version, or 0.
func (o *offspring) acks(n int) (last uint64) {
	for n > 0 && o.lines.Scan() {
		if v, ok := strings.CutPrefix(o.lines.Text(), "ack "); ok {
			last, _ = strconv.ParseUint(v, 10, 64)
			n--
		}
	}
	return last
}

// wantCounted opens the file after a crash: nothing that was acknowledged is
// missing, and the file is intact.
func wantCounted(t *testing.T, path string, acknowledged uint64) uint64 {
	t.Helper()
	db, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	w, err := db.takeWriter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = db.check(t.Context(), w, `PRAGMA integrity_check`)
	db.putWriter(w)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewSQLitePersistenceProvider(db).Load(t.Context(), object.Ref{Type: "Count", ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Version < acknowledged || r.Version > acknowledged+1 {
		t.Fatalf("version %d was acknowledged, %d is stored", acknowledged, r.Version)
	}
	var n uint64
	if r.Version > 0 && (json.Unmarshal(r.Data, &n) != nil || n != r.Version) {
		t.Fatalf("version %d has the state %s", r.Version, r.Data)
	}
	return r.Version
}

// A process is killed at any instant, again and again.
func TestKill(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	path := tempPath(t)
	openDB(t, path).Close()
	stored := uint64(0)
	for range rounds {
		o := spawn(t, "count 1000000 "+path)
		last := max(stored, o.acks(1+rand.IntN(60)))
		if err := o.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		last = max(last, o.acks(1<<30)) // what it still said before it died
		if err := o.cmd.Wait(); err == nil {
			t.Fatal("the child was not killed")
		}
		stored = wantCounted(t, path, last)
	}
	if stored < uint64(rounds) {
		t.Errorf("only %d saves in %d rounds", stored, rounds)
	}
}

func needStrace(t *testing.T) string {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("NOT TESTED: fsync failures of a real process (install strace)")
	}
	if err := exec.CommandContext(t.Context(), strace, "-qq", "-o", os.DevNull, "true").Run(); err != nil {
		t.Skipf("NOT TESTED: fsync failures of a real process (strace may not trace here: %v)", err)
	}
	return strace
}

// When every fsync fails, nothing is ever acknowledged.
func TestFsyncAlwaysFails(t *testing.T) {
	strace, path := needStrace(t), tempPath(t)
	db := openDB(t, path)
	p := NewSQLitePersistenceProvider(db)
	_, err := p.Stamp(t.Context(), kept.Owner, []object.Fence{kept})
	if err := errors.Join(err, count(p, kept, "x", 3, io.Discard), db.Close()); err != nil {
		t.Fatal(err)
	}
	o := spawn(t, "keep 50 "+path, strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO")
	fails := 0
	for o.lines.Scan() {
		if line := o.lines.Text(); strings.HasPrefix(line, "ack ") {
			t.Errorf("%q without an fsync", line)
		} else if strings.HasPrefix(line, "fail ") {
			fails++
		}
	}
	if fails != 5 {
		t.Errorf("%d of 5 saves failed", fails)
	}
	if err := o.cmd.Wait(); err == nil {
		t.Error("the child does not complain")
	}
	if !strings.Contains(o.stderr.String(), path) {
		t.Errorf("the complaint does not name the file: %s", &o.stderr)
	}
	wantCounted(t, path, 3)
}

// When some fsyncs fail, the file is opened again, and all goes on without a loss.
func TestFsyncFailsNowAndThen(t *testing.T) {
	strace, path := needStrace(t), tempPath(t)
	openDB(t, path).Close()
	o := spawn(t, "count 60 "+path, strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when=7+13")
	fails, last := 0, ""
	for o.lines.Scan() {
		if last = o.lines.Text(); strings.HasPrefix(last, "fail ") {
			fails++
		}
	}
	if err := o.cmd.Wait(); err != nil || last != "ack 60" {
		t.Errorf("the child ended with %v after %q: %s", err, last, &o.stderr)
	}
	if fails == 0 {
		t.Error("no fsync failed: nothing was tested")
	}
	if v := wantCounted(t, path, 60); v != 60 {
		t.Errorf("stored is version %d, want 60", v)
	}
}

// Several processes make one file and share it.
func TestProcessesShareAFile(t *testing.T) {
	const n = 4
	path := tempPath(t)
	var mu sync.Mutex
	stores := map[string]int{}
	var wg sync.WaitGroup
	for i := range n {
		o := spawn(t, fmt.Sprintf("share %d %s", i, path))
		wg.Go(func() {
			for o.lines.Scan() {
				if id, ok := strings.CutPrefix(o.lines.Text(), "store "); ok {
					mu.Lock()
					stores[id]++
					mu.Unlock()
				}
			}
			if err := o.cmd.Wait(); err != nil {
				t.Errorf("child %d: %v: %s", i, err, &o.stderr)
			}
		})
	}
	wg.Wait()
	if len(stores) != 1 {
		t.Errorf("the processes saw the store ids %v", stores)
	}
	p := NewSQLitePersistenceProvider(openDB(t, path))
	for i := range n {
		if r, err := p.Load(t.Context(), object.Ref{Type: "Count", ID: fmt.Sprint("share", i)}); err != nil || r.Version != 40 {
			t.Errorf("child %d: %+v, %v", i, r, err)
		}
	}
}

// pair is one file opened twice, as by two nodes on one host: each call takes one
// of the two at random.
type pair struct{ a, b *Provider }

func (p pair) any() *Provider {
	if rand.IntN(2) == 0 {
		return p.a
	}
	return p.b
}

func (p pair) SaveObject(ctx context.Context, typ, id string, data []byte) error {
	return p.any().SaveObject(ctx, typ, id, data)
}

func (p pair) LoadObject(ctx context.Context, typ, id string) ([]byte, error) {
	return p.any().LoadObject(ctx, typ, id)
}

func (p pair) DeleteObject(ctx context.Context, typ, id string) error {
	return p.any().DeleteObject(ctx, typ, id)
}

func (p pair) StoreID(ctx context.Context) (string, error) { return p.any().StoreID(ctx) }

func (p pair) Stamp(ctx context.Context, owner string, fences []object.Fence) ([]object.Fence, error) {
	return p.any().Stamp(ctx, owner, fences)
}

func (p pair) Load(ctx context.Context, ref object.Ref) (object.Record, error) {
	return p.any().Load(ctx, ref)
}

func (p pair) Commit(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
	return p.any().Commit(ctx, owner, saves)
}

func (p pair) Lanes() int { return p.any().Lanes() }

func TestContractOfTwo(t *testing.T) {
	objecttest.Run(t, func(t testing.TB) object.PersistenceProvider {
		path := tempPath(t)
		return pair{NewSQLitePersistenceProvider(openDB(t, path)), NewSQLitePersistenceProvider(openDB(t, path))}
	})
}

// The portable disk that is full: SQLite's own limit of pages.
func TestFull(t *testing.T) {
	k := newDesk(t, tempPath(t))
	limit := func(pages int) {
		w, err := k.db.takeWriter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer k.db.putWriter(w)
		if _, err := w.text(t.Context(), fmt.Sprintf("PRAGMA max_page_count=%d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(60)
	fillUp(t, k, func() { limit(1 << 30) })
}

// A real one, three megabytes large.
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

// fillUp saves until nothing fits any more, makes room and goes on.
func fillUp(t *testing.T, k *desk, room func()) {
	t.Helper()
	data := []byte(`"` + strings.Repeat("x", 20_000) + `"`)
	var refused object.Save
	acknowledged := 0
	for ; ; acknowledged++ {
		refused = k.save(fmt.Sprint(acknowledged), data)
		vs, err := k.Commit(t.Context(), k.Owner, []object.Save{refused})
		if err != nil {
			if !errors.Is(err, object.ErrNotCommitted) || troubleOf(err) != full {
				t.Logf("the disk is full: %v", err)
			}
			break
		}
		if vs[0].Kind != object.Committed {
			t.Fatal(vs[0])
		}
		if acknowledged > 1000 {
			t.Fatal("it never fills up")
		}
	}
	if acknowledged == 0 {
		t.Fatal("nothing was acknowledged: nothing was tested")
	}
	for range 3 {
		if vs, err := k.Commit(t.Context(), k.Owner, []object.Save{refused}); err == nil {
			t.Fatalf("acknowledged on a full disk: %+v", vs)
		}
	}
	wantAll(t, k, acknowledged)
	room()
	k.must(t, []object.Save{refused})
	wantAll(t, k, acknowledged+1)
	w, err := k.db.takeWriter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer k.db.putWriter(w)
	if err := k.db.check(t.Context(), w, `PRAGMA integrity_check`); err != nil {
		t.Fatal(err)
	}
}

func wantAll(t *testing.T, k *desk, n int) {
	t.Helper()
	for i := range n {
		if r, err := k.Load(t.Context(), object.Ref{Type: "Bench", ID: fmt.Sprint(i)}); err != nil || r.Version != 1 || len(r.Data) != 20_002 {
			t.Fatalf("object %d of %d: version %d, %d bytes, %v", i, n, r.Version, len(r.Data), err)
		}
	}
}
