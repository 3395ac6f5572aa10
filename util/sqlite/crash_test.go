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
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/xiaonanln/goverse/object"
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
	case "wide": // many pages in each commit
		return countWide(ctx, p, os.Stdout)
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
func TestProcessesShareAFile(t *testing.T) { shareAFile(t) }

// On a disk that takes long over each sync one of them or another holds the lock
// nearly always; none of them starves.
func TestProcessesShareASlowDisk(t *testing.T) {
	shareAFile(t, needStrace(t), "-f", "-qq", "-o", os.DevNull, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=60000")
}

func shareAFile(t *testing.T, with ...string) {
	const n = 4
	path := tempPath(t)
	var mu sync.Mutex
	stores := map[string]int{}
	var wg sync.WaitGroup
	for i := range n {
		o := spawn(t, fmt.Sprintf("share %d %s", i, path), with...)
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
