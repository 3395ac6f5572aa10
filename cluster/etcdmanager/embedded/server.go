// Package embedded runs a real etcd inside this process, on loopback, for those who
// start Goverse with nothing else at hand. It has one member, keeps its data under
// one directory that it locks, and lives as long as the process does.
package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

const (
	startTimeout = 30 * time.Second // to read the log of a large cluster
	closeTimeout = 3 * time.Second  // of an etcd that is well; it takes some 10 ms
	// A start that nobody wants any more ends by itself, on a busy machine late. Until then
	// it has the directory, where a second etcd would wait for the first for ever.
	abandonTimeout = 20 * time.Second

	failedGrace = 500 * time.Millisecond // of one that has failed, and may never end
)

// defaultQuota is far more than a cluster ever takes.
const defaultQuota = 1 << 30

// Config says where the data is, and how much of it there may be.
type Config struct {
	// Dir is made if it does not exist.
	Dir string
	// Quota is what the database may grow to, in bytes; 0: 1 GiB. An etcd that has reached
	// it stores nothing more.
	Quota int64
}

// Server is a running etcd. All methods may be called concurrently.
type Server struct {
	dir   string
	data  data
	quota int64
	fresh bool
	last  record // what the lock file said before
	lock  *lock
	doom  *doom

	etcd    *embed.Etcd
	grpc    *grpc.Server
	serving sync.WaitGroup

	closing sync.Once
	closed  error
}

// Start locks the directory and starts etcd on its data; it returns when etcd
// answers. A directory that another process uses is a *TakenError. Where the data is
// damaged nothing is changed and the error says so; the process should then end,
// because what etcd had begun cannot always be undone.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("embedded etcd: no data directory is given: name one with --data-dir")
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, unusable(cfg.Dir, err)
	}
	l, last, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, data: data(filepath.Join(dir, "etcd")), quota: cfg.Quota, last: last, lock: l, doom: newDoom()}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, l.release())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	stillborn, err := s.data.check()
	if err == nil && stillborn {
		err = s.data.clear()
	}
	if err != nil {
		return s.damaged(err)
	}
	listener, err := listen(s.last.Endpoint)
	if err != nil {
		return fmt.Errorf("embedded etcd: listen on loopback: %w", err)
	}
	endpoint := listener.Addr().String()
	s.fresh = s.data.empty()
	if err := s.launch(ctx, endpoint); err != nil {
		listener.Close()
		return err
	}
	s.forget(ctx)
	s.serve(listener)
	if err := s.lock.update(func(r *record) { r.Endpoint = endpoint }); err != nil {
		return errors.Join(err, s.shut())
	}
	return nil
}

// listen takes the last port again if it can, so that who had joined finds the
// cluster after a restart.
func listen(last string) (net.Listener, error) {
	if host, _, err := net.SplitHostPort(last); err == nil && host == "127.0.0.1" {
		if l, err := net.Listen("tcp", last); err == nil {
			return l, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// history is how many revisions a watch may fall behind before it has to load
// everything anew, which takes milliseconds.
const history = 200

// smallSegments keeps the log's files small: a start reads the last one whole. The
// size is etcd's only as a variable of its package.
var smallSegments = sync.OnceFunc(func() { wal.SegmentSizeBytes = 4 << 20 })

// configure tunes etcd for one member in a process that does other work. fsync stays
// on: what etcd has answered survives a power cut.
func (s *Server) configure(endpoint string) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = "goverse"
	cfg.Dir = string(s.data)
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	// No listener of embed's: there are no peers, and its way of closing client
	// connections waits for seconds. serve has one that we close ourselves.
	cfg.ListenPeerUrls, cfg.ListenClientUrls = nil, nil
	cfg.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: endpoint}}
	cfg.EnableGRPCGateway = false
	// A single member elects itself. Short ticks make it ready in 40 ms, not in 300.
	cfg.TickMs, cfg.ElectionMs = 10, 50
	cfg.AutoCompactionMode = embed.CompactorModeRevision
	cfg.AutoCompactionRetention = strconv.Itoa(history)
	// A start reads what the last snapshot does not cover, some of it four times. One
	// revision of ours may change 120 keys, so little of it is allowed to gather.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 100, 100
	cfg.QuotaBackendBytes = cmp.Or(s.quota, defaultQuota)
	cfg.MaxSnapFiles, cfg.MaxWalFiles = 2, 2
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(s.doom.logger())
	return cfg
}

// launch starts etcd on a goroutine of its own, because fatal damage ends the
// goroutine that meets it, and waits until it is ready.
func (s *Server) launch(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	started := make(chan *embed.Etcd, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				s.doom.fail(fmt.Errorf("%v", p))
			}
		}()
		smallSegments()
		etcd, err := embed.StartEtcd(s.configure(endpoint))
		if err != nil {
			s.doom.fail(err)
			return
		}
		started <- etcd
	}()
	select {
	case s.etcd = <-started:
	case <-s.doom.failed:
		return s.damaged(s.doom.reason())
	case <-ctx.Done():
		return errors.Join(s.late(ctx), s.abandon(started))
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
		return nil
	case <-s.etcd.Server.StopNotify():
		s.doom.fail(errors.New("etcd stopped while it started"))
		return errors.Join(s.damaged(s.doom.reason()), s.shut())
	case <-s.doom.failed:
		return errors.Join(s.damaged(s.doom.reason()), s.shut())
	case <-ctx.Done():
		return errors.Join(s.late(ctx), s.shut())
	}
}

// abandon closes an etcd that is still starting, which cannot be interrupted, so that
// nobody else meets it in the directory.
func (s *Server) abandon(started <-chan *embed.Etcd) error {
	select {
	case s.etcd = <-started:
		return s.shut()
	case <-s.doom.failed:
		return nil
	case <-time.After(abandonTimeout):
		return fmt.Errorf("embedded etcd on %s is still starting: end this process", s.data)
	}
}

func (s *Server) damaged(err error) error {
	return fmt.Errorf("embedded etcd cannot start on %s: its files are damaged or cannot be written: "+
		"make room or restore a copy, or move the directory away to begin anew: %w", s.data, err)
}

func (s *Server) late(ctx context.Context) error {
	err := fmt.Errorf("embedded etcd on %s did not start: %w", s.data, ctx.Err())
	if reason := s.doom.reason(); reason != nil {
		err = fmt.Errorf("%w: %w", err, reason)
	}
	return err
}

// forget drops all history before anybody watches: etcd's own compactor begins after
// five minutes, and a program that is restarted more often would start ever more
// slowly.
func (s *Server) forget(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	// What fails here was done before, or can wait for the compactor.
	_, _ = s.etcd.Server.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: s.etcd.Server.KV().Rev()})
}

func (s *Server) serve(listener net.Listener) {
	s.grpc = v3rpc.Server(s.etcd.Server, nil, nil,
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	s.serving.Go(func() {
		if err := s.grpc.Serve(listener); err != nil {
			s.doom.fail(fmt.Errorf("serve: %w", err))
		}
	})
}

// Endpoint is where clients connect, host:port.
func (s *Server) Endpoint() string { return s.etcd.Config().AdvertiseClientUrls[0].Host }

// Fresh says that Start has just created the cluster: nothing was ever stored in it.
func (s *Server) Fresh() bool { return s.fresh }

// PreviousLease is what RecordLease said last in the process that used the directory
// before, which is surely dead; zero is none.
func (s *Server) PreviousLease() etcdmanager.LeaseID { return s.last.Lease }

// RecordLease notes the lease of this process's registration, for the next process
// to revoke if this one dies.
func (s *Server) RecordLease(id etcdmanager.LeaseID) error {
	return s.lock.update(func(r *record) { r.Lease = id })
}

// Failed is closed when etcd has died under us, as when its disk fails.
func (s *Server) Failed() <-chan struct{} { return s.doom.failed }

// Err is why it died; nil while it lives.
func (s *Server) Err() error {
	select {
	case <-s.doom.failed:
		return fmt.Errorf("embedded etcd on %s: %w", s.data, s.doom.reason())
	default:
		return nil
	}
}

// Close cuts off every client, stops etcd and lets go of the directory. It may be
// called twice. It takes milliseconds; an etcd that has failed is left behind after
// some seconds, with an error.
func (s *Server) Close() error {
	s.closing.Do(func() {
		// An etcd that is not gone keeps its directory until the process ends.
		if s.closed = s.shut(); s.closed == nil {
			s.closed = s.lock.release()
		}
	})
	return s.closed
}

func (s *Server) shut() error {
	if s.grpc != nil {
		s.grpc.Stop()
		s.serving.Wait()
	}
	grace := closeTimeout
	if s.Err() != nil {
		grace = failedGrace
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.etcd.Close()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(grace):
		return fmt.Errorf("embedded etcd on %s did not stop within %v", s.data, grace)
	}
}
