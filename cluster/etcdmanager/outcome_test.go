package etcdmanager_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
)

// fakeEtcd answers transactions as a test says.
type fakeEtcd struct {
	pb.UnimplementedKVServer
	pb.UnimplementedMaintenanceServer
	answer func(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error)
	status func() *pb.StatusResponse // nil: a good one
	seen   atomic.Int32
}

func (f *fakeEtcd) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	f.seen.Add(1)
	return f.answer(ctx, r)
}

func (f *fakeEtcd) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	if f.status != nil {
		return f.status(), nil
	}
	return &pb.StatusResponse{Version: "3.5.13", Leader: 1}, nil
}

// start serves f and dials it with patience of half a second.
func (f *fakeEtcd) start(t *testing.T) *etcdmanager.Client {
	t.Helper()
	c, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{f.serve(t)}, RequestTimeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// serve serves f at the address that it returns.
func (f *fakeEtcd) serve(t *testing.T) string {
	t.Helper()
	listener := listen(t)
	server := grpc.NewServer()
	pb.RegisterKVServer(server, f)
	pb.RegisterMaintenanceServer(server, f)
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	l := listen(t)
	defer l.Close()
	return l.Addr().String()
}

var onePut = etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put("a", nil, 0)}}

// What etcd says decides whether the outcome is known, and nothing is sent twice.
func TestOutcomeOfARefusedTransaction(t *testing.T) {
	for _, c := range []struct {
		answer  error
		refused bool
		is      error
	}{
		{rpctypes.ErrGRPCTooManyOps, true, nil},
		{rpctypes.ErrGRPCDuplicateKey, true, nil},
		{rpctypes.ErrGRPCRequestTooLarge, true, nil},
		{rpctypes.ErrGRPCRequestTooManyRequests, true, nil},
		{rpctypes.ErrGRPCPermissionDenied, true, nil},
		{rpctypes.ErrGRPCLeaseNotFound, true, etcdmanager.ErrLeaseNotFound},
		{rpctypes.ErrGRPCNoSpace, false, etcdmanager.ErrNoSpace}, // applied, and then said
		{rpctypes.ErrGRPCTimeout, false, nil},
		{rpctypes.ErrGRPCTimeoutDueToLeaderFail, false, nil},
		{rpctypes.ErrGRPCLeaderChanged, false, nil},
		{rpctypes.ErrGRPCStopped, false, nil},
		{status.Error(codes.Canceled, "the proxy gave up"), false, nil},
		{status.Error(codes.DeadlineExceeded, "the server gave up"), false, nil},
		{status.Error(codes.Unavailable, "connection reset"), false, nil},
		{status.Error(codes.Internal, "?"), false, nil},
		{status.Error(codes.ResourceExhausted, "?"), false, nil},
	} {
		t.Run(status.Convert(c.answer).Message(), func(t *testing.T) {
			f := &fakeEtcd{answer: func(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) { return nil, c.answer }}
			_, err := f.start(t).Commit(t.Context(), onePut)
			if err == nil || errors.Is(err, etcdmanager.ErrNotApplied) != c.refused {
				t.Errorf("%v; surely not applied: want %v", err, c.refused)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v, want %v", err, c.is)
			}
			if n := f.seen.Load(); n != 1 {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

func TestOutcomeOfAnAnswerThatDoesNotCome(t *testing.T) {
	f := &fakeEtcd{answer: func(ctx context.Context, _ *pb.TxnRequest) (*pb.TxnResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	c := f.start(t)
	_, err := c.Commit(t.Context(), onePut)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, etcdmanager.ErrNotApplied) {
		t.Errorf("%v: it was sent, and its context ended", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := c.Commit(ctx, onePut)
		failed <- err
	}()
	for f.seen.Load() < 2 {
		time.Sleep(time.Millisecond) // until the server has it; the test ends by its own deadline
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) || errors.Is(err, etcdmanager.ErrNotApplied) {
		t.Errorf("%v: it was sent, and its caller left", err)
	}
	if n := f.seen.Load(); n != 2 {
		t.Errorf("two transactions were sent %d times", n)
	}
}

func TestOutcomeOfATransactionThatNeverLeft(t *testing.T) {
	silent := listen(t) // accepts, and never says a word
	defer silent.Close()
	for name, endpoint := range map[string]string{"nothing listens": closedPort(t), "nobody speaks": silent.Addr().String()} {
		clients, err := etcdmanager.DialEach(etcdmanager.Config{Endpoints: []string{endpoint}, RequestTimeout: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		_, err = clients[0].Commit(t.Context(), onePut)
		if !errors.Is(err, etcdmanager.ErrNotApplied) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), endpoint) {
			t.Errorf("%s: %v", name, err)
		}
		for op, err := range map[string]error{
			"range":   func() error { _, err := clients[0].Range(t.Context(), ""); return err }(),
			"renew":   func() error { _, err := clients[0].KeepAlive(t.Context(), 1); return err }(),
			"version": func() error { _, err := clients[0].Version(t.Context()); return err }(),
		} {
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), endpoint) {
				t.Errorf("%s: %s: %v", name, op, err)
			}
		}
		clients[0].Close()
	}
}

// etcd evaluates a transaction that reads and writes nothing on whatever one member
// happens to know; ours must not be one.
func TestGuardsAloneAreLinearizable(t *testing.T) {
	got := make(chan *pb.TxnRequest, 1)
	f := &fakeEtcd{answer: func(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
		got <- r
		return &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: 7}, Succeeded: true}, nil
	}}
	r, err := f.start(t).Commit(t.Context(), etcdmanager.Txn{If: []etcdmanager.Guard{etcdmanager.Alive("a")}})
	if err != nil || !r.Held || r.Revision != 7 || len(r.Gets) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	linearizable := false
	sent := <-got
	for _, op := range append(sent.Success, sent.Failure...) {
		linearizable = linearizable || !op.GetRequestRange().GetSerializable()
	}
	if !linearizable {
		t.Errorf("%v", sent)
	}
}

func TestDialNamesTheEndpointsThatDoNotAnswer(t *testing.T) {
	a, b := closedPort(t), closedPort(t)
	start := time.Now()
	c, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{a, b}, DialTimeout: 300 * time.Millisecond})
	if err == nil {
		c.Close()
		t.Fatal("somebody answered")
	}
	for _, want := range []string{a, b, "no answer within 300ms", "refused"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("after %v", took)
	}
}

func TestDialNeedsOneEndpointOnly(t *testing.T) {
	f := &fakeEtcd{}
	first := f.start(t)
	if v, err := first.Version(t.Context()); err != nil || v != "3.5.13" {
		t.Errorf("%q, %v", v, err)
	}
}

// Whoever is refused learns which version there is and which it should be.
func TestDialRefusesAnEtcdThatIsTooOld(t *testing.T) {
	for version, refused := range map[string]bool{
		"3.5.12": true, "3.4.99": true, "2.3.8": true, "3.5": true, "": true, "new": true, "3.5.9-rc.1": true, "3.5.-1": true,
		"3.5.13": false, "3.5.13+git": false, "3.5.100": false, "3.6.0-rc.1": false, "3.7.3": false, "4.0.0": false,
	} {
		f := &fakeEtcd{status: func() *pb.StatusResponse { return &pb.StatusResponse{Version: version, Leader: 1} }}
		c, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{f.serve(t)}})
		switch {
		case err == nil:
			c.Close()
			if refused {
				t.Errorf("%q was taken", version)
			}
		case !refused || !errors.Is(err, etcdmanager.ErrTooOld) || !strings.Contains(err.Error(), version) || !strings.Contains(err.Error(), "3.5.13"):
			t.Errorf("%q: %v", version, err)
		}
	}
}

// An etcd that has lost its quorum answers, but decides nothing: it is waited for, and
// not for ever.
func TestDialOfAnEtcdWithoutALeader(t *testing.T) {
	var asked atomic.Int32
	f := &fakeEtcd{status: func() *pb.StatusResponse {
		asked.Add(1)
		return &pb.StatusResponse{Version: "3.6.0"}
	}}
	c, err := etcdmanager.Dial(etcdmanager.Config{Endpoints: []string{f.serve(t)}, DialTimeout: 300 * time.Millisecond})
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, etcdmanager.ErrNoLeader) || !strings.Contains(err.Error(), "start them again") || asked.Load() < 2 || asked.Load() > 20 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
	asked.Store(0)
	f.status = func() *pb.StatusResponse {
		return &pb.StatusResponse{Version: "3.6.0", Leader: uint64(asked.Add(1) / 3)}
	}
	f.start(t)
}
