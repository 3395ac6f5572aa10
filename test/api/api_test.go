package api

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/cmd/gate/gateconfig"
	"github.com/xiaonanln/goverse/gate/gateserver"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
	goverse_pb "github.com/xiaonanln/goverse/proto"
	"github.com/xiaonanln/goverse/server"
	"github.com/xiaonanln/goverse/util/logger"
	"github.com/xiaonanln/goverse/util/protohelper"
	"github.com/xiaonanln/goverse/util/sqlite"
)

// The signatures of the contract. A change here is a change for every user.
var (
	_ func() *goverseapi.Server                                                                                                  = goverseapi.NewServer
	_ func(*goverseapi.ServerConfig) (*goverseapi.Server, error)                                                                 = goverseapi.NewServerWithConfig
	_ func(goverseapi.Object, ...goverseapi.TypeOption)                                                                          = goverseapi.RegisterObjectType
	_ func(ctx context.Context, objType, objID string) (string, error)                                                           = goverseapi.CreateObject
	_ func(ctx context.Context, objType, objID string) error                                                                     = goverseapi.DeleteObject
	_ func(ctx context.Context, objType, id, method string, req proto.Message) (proto.Message, error)                            = goverseapi.CallObject
	_ func(ctx context.Context, clientID string, msg proto.Message, opts ...goverseapi.PushOption) error                         = goverseapi.PushMessageToClient
	_ func(ctx context.Context, clientIDs []string, msg proto.Message, opts ...goverseapi.PushOption) error                      = goverseapi.PushMessageToClients
	_ func(ctx context.Context, msg proto.Message, opts ...goverseapi.PushOption) error                                          = goverseapi.BroadcastToAllClients
	_ func() <-chan bool                                                                                                         = goverseapi.ClusterReady
	_ func(context.Context) string                                                                                               = goverseapi.CallerClientID
	_ func(context.Context) bool                                                                                                 = goverseapi.CallerIsClient
	_ func(context.Context) string                                                                                               = goverseapi.CallerUserID
	_ func(context.Context) []string                                                                                             = goverseapi.CallerRoles
	_ func(context.Context, string) bool                                                                                         = goverseapi.CallerHasRole
	_ func() string                                                                                                              = goverseapi.CreateObjectID
	_ func(int) string                                                                                                           = goverseapi.CreateObjectIDOnShard
	_ func(string) string                                                                                                        = goverseapi.CreateObjectIDOnNode
	_ func() map[string]goverseapi.NodeInfo                                                                                      = goverseapi.GetNodesInfo
	_ func() map[string]goverseapi.GateInfo                                                                                      = goverseapi.GetGatesInfo
	_ func(error) goverseapi.Outcome                                                                                             = goverseapi.OutcomeOf
	_ func(context.Context, string, string, string, string, proto.Message) (proto.Message, goverse_pb.ReliableCallStatus, error) = goverseapi.ReliableCallObject
	_ func() string                                                                                                              = goverseapi.GenerateCallID
	_ func(*server.Server, context.Context) error                                                                                = (*server.Server).Run
	_ func(*gateserver.GateServerConfig) (*gateserver.GateServer, error)                                                         = gateserver.NewGateServer
	_ func(*gateserver.GateServer, context.Context) error                                                                        = (*gateserver.GateServer).Start
	_ func(*gateserver.GateServer) error                                                                                         = (*gateserver.GateServer).Stop
	_ func(*gateserver.GateServer, context.Context) error                                                                        = (*gateserver.GateServer).Run
	_ func(proto.Message) (*anypb.Any, error)                                                                                    = protohelper.MsgToAny
	_ func(*anypb.Any) (proto.Message, error)                                                                                    = protohelper.AnyToMsg
	_ func(string, int) int                                                                                                      = sharding.GetShardID
	_ func(*node.Node, object.PersistenceProvider)                                                                               = (*node.Node).SetPersistenceProvider
	_ func(*node.Node, time.Duration)                                                                                            = (*node.Node).SetPersistenceInterval
	_ func(*sqlite.DB) *sqlite.Provider                                                                                          = sqlite.NewSQLitePersistenceProvider
	_ func(*gateconfig.Loader, []string) (*gateserver.GateServerConfig, error)                                                   = (*gateconfig.Loader).Load
	_ func(*flag.FlagSet) *gateconfig.Loader                                                                                     = gateconfig.NewLoader
	_                                                                                                                            = [...]goverse_pb.ReliableCallStatus{goverse_pb.ReliableCallStatus_UNKNOWN, goverse_pb.ReliableCallStatus_PENDING, goverse_pb.ReliableCallStatus_SUCCESS, goverse_pb.ReliableCallStatus_FAILED, goverse_pb.ReliableCallStatus_SKIPPED}
)

// Note is an object that uses everything BaseObject gives.
type Note struct {
	goverseapi.BaseObject
	text string
}

func (n *Note) OnCreated() { n.Logger.Debugf("created %s %v", n.Id(), n.CreationTime()) }
func (n *Note) OnDestroy() { n.Logger.Debugf("%v ends", n) }

func (n *Note) Write(ctx context.Context, req *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	if req.GetValue() == "" {
		return nil, status.Error(codes.OutOfRange, "nothing to write")
	}
	if n.Context().Err() != nil {
		return nil, n.Context().Err()
	}
	n.text = req.GetValue()
	return req, goverseapi.BroadcastToAllClients(ctx, req)
}

func (n *Note) Read(ctx context.Context, _ *wrapperspb.BoolValue) (*wrapperspb.StringValue, error) {
	return wrapperspb.String(n.text), nil
}

// WhoAsks tells what the method sees of its caller, through another object.
func (n *Note) WhoAsks(ctx context.Context, relay *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	if id := relay.GetValue(); id != "" {
		reply, err := goverseapi.CallObject(ctx, n.Type(), id, "WhoAsks", &wrapperspb.StringValue{})
		if err != nil {
			return nil, err
		}
		return reply.(*wrapperspb.StringValue), nil
	}
	if !goverseapi.CallerIsClient(ctx) {
		return wrapperspb.String("the program"), nil
	}
	if goverseapi.CallerUserID(ctx) != "" || len(goverseapi.CallerRoles(ctx)) > 0 || goverseapi.CallerHasRole(ctx, "admin") {
		return nil, status.Error(codes.Internal, "nobody has authenticated")
	}
	return wrapperspb.String(goverseapi.CallerClientID(ctx)), goverseapi.PushMessageToClient(ctx, goverseapi.CallerClientID(ctx), relay)
}

func (n *Note) ToData() (proto.Message, error) { return wrapperspb.String(n.text), nil }

func (n *Note) FromData(data proto.Message) error {
	if s, ok := data.(*wrapperspb.StringValue); ok {
		n.text = s.GetValue()
	}
	return nil
}

// Ballot has to be created before it is used, and lives only in memory.
type Ballot struct{ goverseapi.BaseObject }

func (b *Ballot) Cast(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	return wrapperspb.String("cast"), nil
}

func TestObjects(t *testing.T) {
	cluster := goversetest.Cluster{Types: []goversetest.Type{
		goversetest.Of((*Note)(nil), goverseapi.WithMode(goverseapi.Sequential), goverseapi.ReadOnlyMethods("Read"),
			goverseapi.WithDurability(goverseapi.Durable), goverseapi.WithIdleTimeout(time.Minute), goverseapi.WithMaxQueue(100)),
		goversetest.Of((*Ballot)(nil), goverseapi.MustCreate(), goverseapi.WithDurability(goverseapi.Volatile), goverseapi.WithMode(goverseapi.Concurrent)),
		goversetest.Of((*Note)(nil), goverseapi.WithName("Draft"), goverseapi.WithDurability(goverseapi.Periodic(time.Second))),
	}}
	goversetest.Run(t, cluster, func(w *goversetest.World) {
		ctx := w.Context()

		id, err := goverseapi.CreateObject(ctx, "Note", "")
		if err != nil || id == "" {
			t.Fatalf("CreateObject: %q, %v", id, err)
		}
		if _, err := goverseapi.CreateObject(ctx, "Note", id); !errors.Is(err, goverseapi.ErrExists) {
			t.Errorf("creating it again: %v", err)
		}
		reply, err := goverseapi.CallObject(ctx, "Note", id, "Write", wrapperspb.String("hello"))
		if err != nil || reply.(*wrapperspb.StringValue).GetValue() != "hello" {
			t.Errorf("Write: %v, %v", reply, err)
		}
		_, err = goverseapi.CallObject(ctx, "Note", id, "Write", wrapperspb.String(""))
		var own interface{ GRPCStatus() *status.Status }
		if !errors.Is(err, goverseapi.ErrFailed) || goverseapi.OutcomeOf(err) != goverseapi.Executed ||
			!errors.As(err, &own) || status.Code(err) != codes.OutOfRange {
			t.Errorf("the method's own status: %v", err)
		}
		w.Restart()
		ctx = w.Context()
		w.Want("Note/"+id, "Read", nil, wrapperspb.String("hello"))
		for range 2 {
			if err := goverseapi.DeleteObject(ctx, "Note", id); err != nil {
				t.Errorf("DeleteObject: %v", err)
			}
		}
		w.Want("Note/"+id, "Read", nil, wrapperspb.String(""))

		if _, err := w.TryCall("Ballot/b", "Cast", wrapperspb.String("")); !errors.Is(err, goverseapi.ErrNotFound) || goverseapi.OutcomeOf(err) != goverseapi.NotExecuted {
			t.Errorf("a ballot that was not created: %v", err)
		}
		if _, err := goverseapi.CreateObject(ctx, "Ballot", "b"); err != nil {
			t.Errorf("create a ballot: %v", err)
		}
		w.Want("Ballot/b", "Cast", wrapperspb.String(""), wrapperspb.String("cast"))
		w.Call("Draft/d", "Write", wrapperspb.String("draft"))

		for _, bad := range []struct {
			ref, method string
			want        error
		}{
			{"Nobody/x", "Read", goverseapi.ErrUnknownType},
			{"Note/x", "Sing", goverseapi.ErrUnknownMethod},
			{"Note/x\x00", "Read", goverseapi.ErrInvalid},
			{"Note/", "Read", goverseapi.ErrInvalid},
			{"Note/" + strings.Repeat("x", 513), "Read", goverseapi.ErrInvalid},
			{"Note/\xff", "Read", goverseapi.ErrInvalid},
			{"Note/x", "Write", goverseapi.ErrInvalid}, // of the wrong message
		} {
			if _, err := w.TryCall(bad.ref, bad.method, wrapperspb.Bool(true)); !errors.Is(err, bad.want) {
				t.Errorf("%q.%s: %v, want %v", bad.ref, bad.method, err, bad.want)
			}
		}
	})
}

func TestClients(t *testing.T) {
	cluster := goversetest.Cluster{Types: []goversetest.Type{goversetest.Of((*Note)(nil))}}
	goversetest.Run(t, cluster, func(w *goversetest.World) {
		ann, bob := w.Connect(), w.Connect()
		for _, path := range []string{"", "relay"} {
			got := ann.Call("Note/n", "WhoAsks", wrapperspb.String(path))
			if !proto.Equal(got, wrapperspb.String(ann.ID())) {
				t.Errorf("asked by %s, the method saw %v", ann.ID(), got)
			}
			if m := ann.Next(); !proto.Equal(m, &wrapperspb.StringValue{}) {
				t.Errorf("the push says %v", m)
			}
		}
		w.Want("Note/n", "WhoAsks", wrapperspb.String(""), wrapperspb.String("the program"))
		ann.Call("Note/n", "Write", wrapperspb.String("for all"))
		for _, c := range []*goversetest.Client{ann, bob} {
			if m := c.Next(); !proto.Equal(m, wrapperspb.String("for all")) {
				t.Errorf("%s got %v", c.ID(), m)
			}
		}
		if err := goverseapi.PushMessageToClients(w.Context(), []string{bob.ID()}, wrapperspb.String("for bob")); err != nil {
			t.Error(err)
		}
		if m := bob.Next(); !proto.Equal(m, wrapperspb.String("for bob")) {
			t.Errorf("bob got %v", m)
		}
		ann.Close()
		if err := goverseapi.PushMessageToClient(w.Context(), ann.ID(), wrapperspb.String("too late")); err != nil {
			t.Errorf("a push to a client that has left: %v", err)
		}
		if err := goverseapi.PushMessageToClient(w.Context(), "nonsense", wrapperspb.String("")); !errors.Is(err, goverseapi.ErrInvalid) {
			t.Errorf("a push to nonsense: %v", err)
		}
	})
}

// TestDefaultServer runs a server as a program does: on the process's default
// runtime, with the embedded etcd and SQLite.
func TestDefaultServer(t *testing.T) {
	goverseapi.RegisterObjectType((*Note)(nil), goverseapi.ReadOnlyMethods("Read"))
	goverseapi.RegisterObjectType((*Note)(nil), goverseapi.ReadOnlyMethods("Read")) // once more is nothing
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := goverseapi.NewServerWithConfig(&goverseapi.ServerConfig{Listener: l, DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	if ready := <-goverseapi.ClusterReady(); !ready {
		t.Error("ClusterReady yields false")
	}
	me := l.Addr().String()
	want := goverseapi.NodeInfo{Address: me, Configured: true, IsAlive: true, IsLeader: true}
	if got := goverseapi.GetNodesInfo()[me]; got != want {
		t.Errorf("GetNodesInfo: %+v", got)
	}
	if got := goverseapi.GetGatesInfo(); len(got) != 0 {
		t.Errorf("GetGatesInfo: %v", got)
	}
	onShard, onNode := goverseapi.CreateObjectIDOnShard(17), goverseapi.CreateObjectIDOnNode(me)
	if got := sharding.GetShardID(onShard, sharding.NumShards); got != 17 {
		t.Errorf("%s is on shard %d", onShard, got)
	}
	for _, id := range []string{goverseapi.CreateObjectID(), onShard, onNode} {
		if _, err := goverseapi.CallObject(t.Context(), "Note", id, "Write", wrapperspb.String("x")); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if err := s.Node.SaveAllObjects(t.Context()); err != nil {
		t.Error(err)
	}
	s.Node.SetPersistenceInterval(time.Second)
	stop()
	running.Wait()
	if err := s.Run(t.Context()); err == nil {
		t.Error("a server ran twice")
	}
}

func TestServerConfigSaysEverythingAtOnce(t *testing.T) {
	_, err := goverseapi.NewServerWithConfig(&goverseapi.ServerConfig{
		ListenAddress: "nonsense", NumShards: 9000, MinQuorum: -1, DefaultCallTimeout: -1, EtcdPrefix: "/x",
		MetricsListenAddress: "also nonsense", NodeStabilityDuration: -1, ShardMappingCheckInterval: -1,
		InspectorAddress: "", DefaultCreateTimeout: 1, DefaultDeleteTimeout: 1,
	})
	for _, word := range []string{"ListenAddress", "NumShards", "MinQuorum", "DefaultCallTimeout", "MetricsListenAddress", "NodeStabilityDuration", "ShardMappingCheckInterval"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
}

func TestProviderCannotChangeUnderLivingObjects(t *testing.T) {
	n := node.New(node.Config{Types: object.NewTypes()})
	n.SetPersistenceProvider(memstore.New())
	n.Start()
	defer func() {
		if recover() == nil {
			t.Error("the store was changed after the start")
		}
	}()
	n.SetPersistenceProvider(memstore.New())
}

// The wire contract: what a client that was compiled long ago sends and expects.
func TestGateMessagesAreFrozen(t *testing.T) {
	for m, want := range map[proto.Message][]string{
		&gate_pb.RegisterResponse{}:           {"client_id=1", "unix_millis=2"},
		&gate_pb.CallObjectRequest{}:          {"client_id=1", "type=2", "id=3", "method=4", "request=5"},
		&gate_pb.CallObjectResponse{}:         {"response=1", "durable=2"},
		&gate_pb.CreateObjectRequest{}:        {"type=1", "id=2"},
		&gate_pb.CreateObjectResponse{}:       {"id=1"},
		&gate_pb.DeleteObjectRequest{}:        {"id=1", "type=2"},
		&gate_pb.DeleteObjectResponse{}:       nil,
		&gate_pb.ReliableCallObjectRequest{}:  {"call_id=1", "type=2", "id=3", "method=4", "request=5", "client_id=6"},
		&gate_pb.ReliableCallObjectResponse{}: {"response=1", "error=2", "status=3", "replayed=4", "failure=5"},
		&gate_pb.SettleRequest{}:              {"call_id=1", "type=2", "id=3"},
		&gate_pb.SettleResponse{}:             {"status=1", "response=2", "error=3", "failure=4"},
		&gate_pb.ClientBatch{}:                {"frames=1"},
		&gate_pb.ClientFrame{}: {"call=1", "timeout_micros=2", "hello=3", "call_object=4", "create_object=5", "delete_object=6",
			"reliable_call_object=7", "settle=8", "cancel=9", "ack=10", "subscribe=20", "unsubscribe=21", "traceparent=30", "tracestate=31"},
		&gate_pb.Hello{}:     {"resumable=1", "token=2", "last=3"},
		&gate_pb.Ack{}:       {"seq=1"},
		&gate_pb.Cancel{}:    nil,
		&gate_pb.GateBatch{}: {"frames=1"},
		&gate_pb.GateFrame{}: {"call=1", "welcome=2", "push=3", "goodbye=4", "call_object=5", "create_object=6", "delete_object=7",
			"reliable_call_object=8", "settle=9", "failure=10", "reset=11", "subscribed=20", "unsubscribed=21", "published=22"},
		&gate_pb.Welcome{}: {"client_id=1", "max_calls=2", "unix_millis=3", "token=4", "resumed=5", "resume_millis=6", "subscriptions=20"},
		&gate_pb.Push{}:    {"message=1", "seq=2"},
		&gate_pb.Reset{}:   {"from=1", "to=2", "reason=3"},
		&gate_pb.Goodbye{}: {"status=1", "gates=2"},

		&gate_pb.SubscribeRequest{}:    {"type=1", "id=2", "incarnation=3", "version=4"},
		&gate_pb.SubscribeResponse{}:   {"subscription=1"},
		&gate_pb.UnsubscribeRequest{}:  {"subscription=1"},
		&gate_pb.UnsubscribeResponse{}: nil,
		&gate_pb.Published{}:           {"subscription=1", "version=2", "snapshot=3", "change=4", "reset=5", "reason=6", "failure=7", "incarnation=8"},
	} {
		var got []string
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			got = append(got, fmt.Sprintf("%s=%d", f.Name(), f.Number()))
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", m.ProtoReflect().Descriptor().FullName(), got, want)
		}
	}
}

func TestOperationLine(t *testing.T) {
	out := captureLog(t, func() {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		types := object.NewTypes()
		if err := types.Register((*Note)(nil)); err != nil {
			t.Fatal(err)
		}
		s, err := goverseapi.NewServerWithConfig(&goverseapi.ServerConfig{Listener: l, DataDir: t.TempDir(), LogOperations: true, Types: types})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx) })
		if _, err := goverseapi.CallObject(t.Context(), "Note", "Note-general", "Write", wrapperspb.String("x")); err != nil {
			t.Error(err)
		}
		stop()
		running.Wait()
	})
	if want := "CallObject objType=Note id=Note-general method=Write"; !strings.Contains(out, want) {
		t.Errorf("the log has no line %q:\n%s", want, out)
	}
}

// captureLog collects what the default logger writes while f runs.
func captureLog(t *testing.T, f func()) string {
	t.Helper()
	var mu sync.Mutex
	var out bytes.Buffer
	logger.UseText(writerFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(b)
	}))
	defer logger.UseText(os.Stderr)
	f()
	mu.Lock()
	defer mu.Unlock()
	return out.String()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// Scribe logs.
type Scribe struct{ goverseapi.BaseObject }

func (s *Scribe) Jot(_ context.Context, m *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	s.Logger.Infof("jots %s", m.GetValue())
	return m, nil
}

func TestObjectsLogUnderTheirName(t *testing.T) {
	cluster := goversetest.Cluster{Types: []goversetest.Type{goversetest.Of((*Scribe)(nil))}}
	out := captureLog(t, func() {
		goversetest.Sim(t, cluster, func(w *goversetest.World) { w.Call("Scribe/s", "Jot", wrapperspb.String("this")) })
	})
	if want := "INFO: [Scribe/s] jots this"; !strings.Contains(out, want) {
		t.Errorf("the log has no line %q:\n%s", want, out)
	}
}
