package embedded

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// childEnv names the data directory on which a process of this test binary starts a
// server.
const childEnv = "GOVERSE_EMBEDDED_TEST_DIR"

// child starts a server, says so or why not, and lives until its input ends.
func child(dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := Start(ctx, Config{Dir: dir})
	if err != nil {
		var taken *TakenError
		fmt.Printf("error %v %v\n", errors.As(err, &taken), strings.ReplaceAll(err.Error(), "\n", " "))
		return 0
	}
	if err := register(ctx, s); err != nil {
		fmt.Println("error", err)
		return 0
	}
	fmt.Println("started", s.Endpoint())
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := s.Close(); err != nil {
		fmt.Println("error", err)
	}
	return 0
}

// register puts a key on a lease, as a node does, and notes the lease.
func register(ctx context.Context, s *Server) error {
	c, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{s.Endpoint()}})
	if err != nil {
		return err
	}
	defer c.Close()
	id, _, err := c.Grant(ctx, time.Hour)
	if err != nil {
		return err
	}
	_, err = c.Commit(ctx, etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put("registration", nil, id)}})
	return errors.Join(err, s.RecordLease(id))
}

// process is a child at work.
type process struct {
	*exec.Cmd
	said   string // its first line
	input  io.WriteCloser
	output *bufio.Reader
	errors bytes.Buffer
}

func spawn(t *testing.T, dir string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0])}
	p.Env = append(os.Environ(), childEnv+"="+dir)
	p.Stderr = &p.errors
	var err error
	if p.input, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.output = bufio.NewReader(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.said, _ = p.output.ReadString('\n')
	return p
}

// end lets the child end in order and checks that it had nothing to complain of.
func (p *process) end(t *testing.T) {
	t.Helper()
	p.input.Close()
	rest, _ := io.ReadAll(p.output)
	if err := p.Wait(); err != nil || len(rest) > 0 || p.errors.Len() > 0 {
		t.Errorf("the other process: %v; said %q%q and on stderr: %.2000s", err, p.said, rest, p.errors.String())
	}
}

func TestADirectoryThatIsTaken(t *testing.T) {
	dir := t.TempDir()
	other := spawn(t, dir)
	defer other.end(t)
	endpoint, ok := strings.CutPrefix(strings.TrimSpace(other.said), "started ")
	if !ok {
		t.Fatal(other.said)
	}
	_, err := Start(t.Context(), Config{Dir: dir})
	var taken *TakenError
	if !errors.As(err, &taken) || taken.PID != other.Process.Pid || taken.Endpoint != endpoint || taken.Dir != dir {
		t.Fatalf("%+v: %v", taken, err)
	}
	want := fmt.Sprintf("data directory %s is in use by process %d: join it with --etcd %s, or give this process its own --data-dir", dir, taken.PID, endpoint)
	if err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	// And where it says to join, one can.
	c, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{taken.Endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestADirectoryThatIsTakenByThisProcess(t *testing.T) {
	s := start(t, t.TempDir())
	_, err := Start(t.Context(), Config{Dir: s.dir})
	var taken *TakenError
	if !errors.As(err, &taken) || taken.PID != os.Getpid() || taken.Endpoint != s.Endpoint() {
		t.Error(err)
	}
}

func TestADirectoryWhoseHolderIsStillStarting(t *testing.T) {
	dir := t.TempDir()
	l, _, err := takeLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	_, err = Start(t.Context(), Config{Dir: dir})
	var taken *TakenError
	if !errors.As(err, &taken) || taken.PID != os.Getpid() || taken.Endpoint != "" || !strings.Contains(err.Error(), "still starting") {
		t.Error(err)
	}
}

// The holder is killed: its directory is free at once, with its data, and it says
// which lease to revoke so that nobody waits for it to end.
func TestADirectoryWhoseHolderWasKilled(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		other := spawn(t, dir)
		if !strings.HasPrefix(other.said, "started ") {
			t.Fatal(other.said)
		}
		if err := other.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = other.Wait() // it was killed
		s := start(t, dir)
		c := dial(t, s)
		for _, want := range []int{1, 0} {
			if p, err := c.Range(t.Context(), "registration"); err != nil || len(p.Items) != want {
				t.Errorf("%d registrations, want %d: %v", len(p.Items), want, err)
			}
			if err := c.Revoke(t.Context(), s.PreviousLease()); err != nil || s.PreviousLease() == 0 {
				t.Errorf("revoke %x: %v", int64(s.PreviousLease()), err)
			}
		}
		if s.Fresh() {
			t.Error("fresh after a life")
		}
		c.Close()
		stop(t, s)
	}
}

func TestALockFileThatMakesNoSenseCostsNothing(t *testing.T) {
	for _, text := range []string{"", "garbage", `{"pid":12`, strings.Repeat("\x00", 300), `{"pid":1,"endpoint":"nowhere","lease":"zz"}`, strings.Repeat("x", 1<<20)} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, lockName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := start(t, dir)
		if s.PreviousLease() != 0 {
			t.Errorf("%.20q: lease %x", text, int64(s.PreviousLease()))
		}
		stop(t, s)
	}
}

// The first start may be cut off before etcd has made its database: the log alone is
// all then.
func TestAYoungDirectoryWithoutItsDatabase(t *testing.T) {
	for name, size := range map[string]int64{"none": -1, "empty": 0} {
		dir := t.TempDir()
		s := start(t, dir)
		c := dial(t, s)
		put(t, c, "key", "value")
		c.Close()
		stop(t, s)
		db := filepath.Join(dir, "etcd", "member", "snap", "db")
		if err := os.Remove(db); err != nil {
			t.Fatal(err)
		}
		if size == 0 {
			if err := os.WriteFile(db, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s = start(t, dir)
		c = dial(t, s)
		if page, err := c.Range(t.Context(), "key"); err != nil || len(page.Items) != 1 {
			t.Errorf("%s: %+v, %v", name, page, err)
		}
		c.Close()
		stop(t, s)
	}
}

// Whatever is done to its files, etcd starts or an error says what is wrong: no
// hang, no exit, no panic, no word on stderr.
func TestDamagedData(t *testing.T) {
	whole := t.TempDir()
	s := start(t, whole)
	c := dial(t, s)
	for i := range 500 {
		put(t, c, fmt.Sprintf("key/%03d", i), strings.Repeat("value", 20))
	}
	stop(t, s)
	db := filepath.Join("etcd", "member", "snap", "db")
	log := firstLog(t, whole)
	files := readTree(t, whole)
	const (
		starts  = "started 127.0.0.1:" // it can be repaired
		refuses = "error false "
		either  = "" // the bytes may have been of no use
	)
	type damage struct {
		name string
		do   func(dir string) error
		want string
	}
	all := []damage{
		{"nothing", func(string) error { return nil }, starts},
		{"no database", func(dir string) error { return os.Remove(filepath.Join(dir, db)) }, refuses}, // the log alone is no longer all
		{"a database of nothing", truncate(db, 0), refuses},
		{"no log", func(dir string) error { return os.Remove(filepath.Join(dir, log)) }, refuses},
		{"a log of nothing", truncate(log, 0), refuses},
		{"a log of 10 bytes", truncate(log, 10), refuses},
		{"a log cut in the middle", truncate(log, 20000), refuses},
		{"a log whose head is overwritten", overwrite(log, 0, 100), refuses},
		{"a log overwritten in the middle", overwrite(log, 10000, 100), refuses},
		{"a log that is a directory", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, log)), os.Mkdir(filepath.Join(dir, log), 0o700))
		}, refuses},
		{"a database of 10 bytes", truncate(db, 10), refuses},
		{"a database of 3 pages", truncate(db, 3*4096), refuses},
		{"a database without its last page", truncate(db, -4096), either},
		{"a database whose heads are overwritten", overwrite(db, 0, 8192), refuses},
		{"a database whose first head is overwritten", overwrite(db, 0, 4096), either},
		{"a database that is a directory", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, db)), os.Mkdir(filepath.Join(dir, db), 0o700))
		}, refuses},
	}
	snaps := snapshots(t, whole)
	for i, snap := range snaps {
		all = append(all, damage{fmt.Sprintf("no snapshot %d", i), func(dir string) error { return os.Remove(filepath.Join(dir, snap)) }, either},
			damage{fmt.Sprintf("snapshot %d of nothing", i), truncate(snap, 0), either},
			damage{fmt.Sprintf("snapshot %d scratched", i), overwrite(snap, 30, 8), either},
			damage{fmt.Sprintf("snapshot %d cut", i), truncate(snap, 100), either})
	}
	all = append(all, damage{"no snapshot at all", func(dir string) error {
		var errs []error
		for _, snap := range snaps {
			errs = append(errs, os.Remove(filepath.Join(dir, snap)))
		}
		return errors.Join(errs...)
	}, either})
	for page := int64(2); page < 6; page++ {
		all = append(all, damage{fmt.Sprintf("page %d of the database overwritten", page), overwrite(db, page*4096, 4096), either},
			damage{fmt.Sprintf("page %d of the database scratched", page), overwrite(db, page*4096+100, 60), either})
	}
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 2))
		all = append(all, damage{fmt.Sprintf("seed %d: the database scratched", seed), overwrite(db, rng.Int64N(31*4096), 1+rng.Int64N(16)), either},
			damage{fmt.Sprintf("seed %d: the log scratched", seed), overwrite(log, rng.Int64N(90000), 1+rng.Int64N(16)), either})
	}
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			files.writeTo(t, dir)
			if err := d.do(dir); err != nil {
				t.Fatal(err)
			}
			before := time.Now()
			said := startOn(t, dir)
			if took := time.Since(before); took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
			if !strings.HasPrefix(said, d.want) || !strings.HasPrefix(said, starts) && !(strings.HasPrefix(said, refuses) && strings.Contains(said, dir)) {
				t.Errorf("it said %q", said)
			}
		})
	}
}

// startOn is what a process says that starts on dir: another one, unless this one's
// own check refuses before etcd has a chance to harm it.
func startOn(t *testing.T, dir string) string {
	t.Helper()
	if _, err := data(filepath.Join(dir, "etcd")).check(); err == nil {
		p := spawn(t, dir)
		p.end(t)
		return p.said
	}
	s, err := Start(t.Context(), Config{Dir: dir})
	if err == nil {
		stop(t, s)
		return "started on what the check refuses"
	}
	return "error false " + err.Error()
}

func firstLog(t *testing.T, dir string) string {
	t.Helper()
	return filesLike(t, dir, "wal", "*.wal")[0]
}

func snapshots(t *testing.T, dir string) []string {
	t.Helper()
	return filesLike(t, dir, "snap", "*.snap")
}

// filesLike lists etcd's files of one kind, relative to dir. There is at least one.
func filesLike(t *testing.T, dir, folder, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "etcd", "member", folder, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	for i := range files {
		if files[i], err = filepath.Rel(dir, files[i]); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// truncate cuts a file to size, or by -size.
func truncate(name string, size int64) func(dir string) error {
	return func(dir string) error {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if size < 0 {
			return os.Truncate(path, info.Size()+size)
		}
		return os.Truncate(path, size)
	}
}

func overwrite(name string, at, n int64) func(dir string) error {
	return func(dir string) error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(bytes.Repeat([]byte{0xa5, 0x17, 0xff}, int(n)/3+1)[:n], at)
		return errors.Join(err, f.Close())
	}
}

// tree is a data directory in memory, without the empty space at the end of its
// files.
type tree map[string]struct {
	text []byte
	size int64
}

func readTree(t *testing.T, dir string) tree {
	t.Helper()
	files := tree{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".tmp") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		f := files[rel]
		f.text, f.size = bytes.Clone(bytes.TrimRight(text, "\x00")), int64(len(text))
		files[rel] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func (files tree) writeTo(t *testing.T, dir string) {
	t.Helper()
	for rel, f := range files {
		path := filepath.Join(dir, rel)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, f.text, 0o600), os.Truncate(path, f.size))
		if err != nil {
			t.Fatal(err)
		}
	}
}
