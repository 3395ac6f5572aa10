package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// TestMain also is the other process of the tests that need one.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}

func start(t testing.TB, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t testing.TB, s *Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func dial(t testing.TB, s *Server) *etcdmanager.Client {
	t.Helper()
	c, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{s.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func put(t testing.TB, c *etcdmanager.Client, key, value string) {
	t.Helper()
	if _, err := c.Commit(context.Background(), etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put(key, []byte(value), 0)}}); err != nil {
		t.Fatal(err)
	}
}

func TestDataOutlivesTheServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	var endpoint string
	for round := range 3 {
		s := start(t, dir)
		if s.Fresh() != (round == 0) {
			t.Errorf("round %d: fresh: %v", round, s.Fresh())
		}
		if endpoint == "" {
			endpoint = s.Endpoint()
		}
		if s.Endpoint() != endpoint {
			t.Errorf("round %d: the endpoint moved from %s to %s", round, endpoint, s.Endpoint())
		}
		if !strings.HasPrefix(s.Endpoint(), "127.0.0.1:") {
			t.Errorf("endpoint %s is not on loopback", s.Endpoint())
		}
		c := dial(t, s)
		put(t, c, fmt.Sprint("k", round), "v")
		p, err := c.Range(t.Context(), "")
		if err != nil || len(p.Items) != round+1 {
			t.Errorf("round %d: %d keys, %v", round, len(p.Items), err)
		}
		stop(t, s)
		stop(t, s) // a second time is nothing
		if s.Err() != nil {
			t.Error(s.Err())
		}
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestTheEndpointMovesOnlyIfItMust(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	stop(t, s)
	squatter, err := listen(s.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	if again := start(t, dir); again.Endpoint() == s.Endpoint() {
		t.Error("two servers on one port")
	}
}

func TestARecordedLeaseIsThePreviousOneNextTime(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	if s.PreviousLease() != 0 {
		t.Errorf("lease %x before any", int64(s.PreviousLease()))
	}
	for _, id := range []etcdmanager.LeaseID{1<<63 - 1, 0x694d9a} {
		if err := s.RecordLease(id); err != nil {
			t.Fatal(err)
		}
	}
	stop(t, s)
	if err := s.RecordLease(1); err == nil {
		t.Error("recorded after the end")
	}
	for range 2 { // it stays until another is recorded
		s = start(t, dir)
		if s.PreviousLease() != 0x694d9a {
			t.Errorf("lease %x", int64(s.PreviousLease()))
		}
		stop(t, s)
	}
}

func TestCloseDoesNotWaitForClients(t *testing.T) {
	s := start(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 5 {
		c := dial(t, s)
		put(t, c, "a", "")
		<-c.Watch(ctx, "", 1)
		id, _, err := c.Grant(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.KeepAlive(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now()
	stop(t, s)
	if took := time.Since(before); took > time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestStartOfAContextThatHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Config{Dir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// However far a start came: when it is given up, the directory is free for another.
func TestStartThatIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	for wait := time.Microsecond; wait < 200*time.Millisecond; wait *= 3 {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		s, err := Start(ctx, Config{Dir: dir})
		cancel()
		switch {
		case err == nil:
			stop(t, s) // it was the faster
		case !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("after %v: %v", wait, err)
		}
	}
	start(t, dir)
}

// A process that died after it had made the log and before its first entry: etcd would
// wait for ever for a member that nobody ever added.
func TestStillbornData(t *testing.T) {
	dir := t.TempDir()
	d := data(filepath.Join(dir, "etcd"))
	if err := os.MkdirAll(d.snapshots(), 0o700); err != nil {
		t.Fatal(err)
	}
	id, cluster := uint64(1), uint64(2)
	metadata, err := proto.Marshal(&etcdserverpb.Metadata{NodeID: &id, ClusterID: &cluster})
	if err != nil {
		t.Fatal(err)
	}
	log, err := wal.Create(zap.NewNop(), d.log(), metadata)
	if err == nil {
		err = log.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	if !s.Fresh() {
		t.Error("it is said to have been used")
	}
	put(t, dial(t, s), "a", "1")
	stop(t, s)
	if stillborn, err := d.check(); stillborn || err != nil {
		t.Errorf("data that was used: stillborn %v, %v", stillborn, err)
	}
}

func TestADirectoryThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	locked := t.TempDir()
	if err := os.Mkdir(filepath.Join(locked, lockName), 0o700); err != nil {
		t.Fatal(err)
	}
	occupied := t.TempDir()
	if err := os.WriteFile(filepath.Join(occupied, "etcd"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{
		"none": "", "a file": file, "below a file": filepath.Join(file, "x"), "a directory where the lock is": locked,
		"a file where etcd's directory is": occupied,
	}
	if os.Geteuid() != 0 {
		readOnly := t.TempDir()
		if err := os.Chmod(readOnly, 0o500); err != nil {
			t.Fatal(err)
		}
		dirs["read only"] = readOnly
	}
	for name, dir := range dirs {
		s, err := Start(t.Context(), Config{Dir: dir})
		if err == nil {
			stop(t, s)
			t.Errorf("%s: it started", name)
			continue
		}
		if !strings.Contains(err.Error(), dir) || name != "a file where etcd's directory is" && !strings.Contains(err.Error(), "--data-dir") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDoomEndsOneGoroutineOnly(t *testing.T) {
	for name, die := range map[string]func(d *doom){
		"fatal": func(d *doom) { d.logger().Fatal("failed to save") },
		"panic": func(d *doom) { d.logger().Named("x").Panic("failed to save") },
		"raft":  func(d *doom) { d.logger().Sugar().Panicf("failed %s", "to save") },
	} {
		d := newDoom()
		ended := make(chan struct{})
		went := true
		go func() {
			defer close(ended)
			die(d)
			went = false
		}()
		<-ended
		<-d.failed
		if !went || d.reason() == nil || !strings.Contains(d.reason().Error(), "failed to save") {
			t.Errorf("%s: %v, %v", name, went, d.reason())
		}
	}
}

func TestAnEtcdThatFailsIsReportedAndCanBeClosed(t *testing.T) {
	s := start(t, t.TempDir())
	s.doom.fail(errors.New("the disk is gone"))
	<-s.Failed()
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Error(err)
	}
	stop(t, s)
}

func FuzzDecodeRecord(f *testing.F) {
	for _, r := range []record{{}, {PID: 42, Endpoint: "127.0.0.1:2379", Lease: 0x694d9a}, {Endpoint: "é:1"}} {
		text, err := r.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"pid":1,"endpoint":"","lease":""}`))
	f.Add([]byte(`{"pid":-1,"lease":"0"}`))
	f.Add([]byte("\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decode(text)
		if err != nil {
			if r != (record{}) {
				t.Errorf("%+v beside %v", r, err)
			}
			return
		}
		if r.PID < 0 || r.Lease < 0 {
			t.Errorf("%+v", r)
		}
		again, err := r.encode()
		if err != nil {
			return // too long for a lock file
		}
		if len(again) != recordSize {
			t.Errorf("%d bytes", len(again))
		}
		if back, err := decode(again); err != nil || back != r {
			t.Errorf("%+v became %+v, %v", r, back, err)
		}
	})
}

func BenchmarkStartToFirstPut(b *testing.B) {
	for name, dir := range map[string]func() string{"fresh": func() string { return b.TempDir() }, "again": sameDir(b)} {
		b.Run(name, func(b *testing.B) {
			var closing time.Duration
			for b.Loop() {
				s, err := Start(b.Context(), Config{Dir: dir()})
				if err != nil {
					b.Fatal(err)
				}
				c, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{s.Endpoint()}})
				if err != nil {
					b.Fatal(err)
				}
				put(b, c, "a", "")
				b.StopTimer()
				before := time.Now()
				stop(b, s)
				closing += time.Since(before)
				c.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(closing.Milliseconds())/float64(b.N), "ms/close")
		})
	}
}

func sameDir(b *testing.B) func() string {
	dir := b.TempDir()
	return func() string { return dir }
}
