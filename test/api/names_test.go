package api

import (
	"context"
	"flag"
	"iter"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/client"
	"github.com/xiaonanln/goverse/client/goverseclient"
	"github.com/xiaonanln/goverse/cluster"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/cmd/gate/gateconfig"
	"github.com/xiaonanln/goverse/gate/gateserver"
	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
	"github.com/xiaonanln/goverse/server"
	"github.com/xiaonanln/goverse/util/logger"
	"github.com/xiaonanln/goverse/util/postgres"
	"github.com/xiaonanln/goverse/util/protohelper"
)

// The names of the public contract, with their signatures: what a program may have
// written down keeps its form. What they do is for the other tests.
var (
	_ *goverseapi.ServerConfig = (*server.ServerConfig)(nil)
	_ *goverseapi.Server       = (*server.Server)(nil)
	_ *goverseapi.Node         = (*node.Node)(nil)
	_ goverseapi.Object        = object.Object(nil)
	_ *goverseapi.BaseObject   = (*object.BaseObject)(nil)
	_ *goverseapi.BaseClient   = (*client.BaseClient)(nil)
	_ *goverseapi.Cluster      = (*cluster.Cluster)(nil)

	_ func() *goverseapi.Server                                                                                                  = goverseapi.NewServer
	_ func(*goverseapi.ServerConfig) (*goverseapi.Server, error)                                                                 = goverseapi.NewServerWithConfig
	_ func(goverseapi.Object, ...goverseapi.TypeOption)                                                                          = goverseapi.RegisterObjectType
	_ func(ctx context.Context, objType, objID string) (string, error)                                                           = goverseapi.CreateObject
	_ func(ctx context.Context, objType, objID string) error                                                                     = goverseapi.DeleteObject
	_ func(ctx context.Context, objType, id, method string, req proto.Message) (proto.Message, error)                            = goverseapi.CallObject
	_ func(context.Context, string, string, string, string, proto.Message) (proto.Message, goverse_pb.ReliableCallStatus, error) = goverseapi.ReliableCallObject
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
	_ func(shard int) string                                                                                                     = goverseapi.CreateObjectIDOnShard
	_ func(addr string) string                                                                                                   = goverseapi.CreateObjectIDOnNode
	_ func() string                                                                                                              = goverseapi.GenerateCallID
	_ func() map[string]goverseapi.NodeInfo                                                                                      = goverseapi.GetNodesInfo
	_ func() map[string]goverseapi.GateInfo                                                                                      = goverseapi.GetGatesInfo
	_                                                                                                                            = goverseapi.NodeInfo{Address: "", Configured: false, IsAlive: false, IsLeader: false}
	_                                                                                                                            = goverseapi.GateInfo{Address: "", Configured: false, IsAlive: false}
	_ func(id string) goverseapi.CallOption                                                                                      = goverseapi.WithCallID
	_ func() goverseapi.CallOption                                                                                               = goverseapi.WithAtLeastOnce
	_ func(error) goverseapi.Outcome                                                                                             = goverseapi.OutcomeOf

	_ func(*gateserver.GateServerConfig) (*gateserver.GateServer, error) = gateserver.NewGateServer
	_ func(*gateserver.GateServer, context.Context) error                = (*gateserver.GateServer).Start
	_ func(*gateserver.GateServer) error                                 = (*gateserver.GateServer).Stop
	_ func(*gateserver.GateServer, context.Context) error                = (*gateserver.GateServer).Run
	_ func(*server.Server, context.Context) error                        = (*server.Server).Run

	_ func(*flag.FlagSet) *gateconfig.Loader                                   = gateconfig.NewLoader
	_ func(*gateconfig.Loader, []string) (*gateserver.GateServerConfig, error) = (*gateconfig.Loader).Load
	_ func(proto.Message) (*anypb.Any, error)                                  = protohelper.MsgToAny
	_ func(*anypb.Any) (proto.Message, error)                                  = protohelper.AnyToMsg
	_ func(id string, n int) int                                               = sharding.GetShardID
	_ int                                                                      = sharding.NumShards
	_ func() *postgres.Config                                                  = postgres.DefaultConfig
	_ func(*postgres.Config) (*postgres.DB, error)                             = postgres.NewDB
	_ func(*postgres.DB, context.Context) error                                = (*postgres.DB).InitSchema
	_ func(*postgres.DB) *postgres.Provider                                    = postgres.NewPostgresPersistenceProvider
	_ object.PersistenceProvider                                               = (*postgres.Provider)(nil)
	_ func(prefix string) *logger.Logger                                       = logger.NewLogger
	_ func(format string, args ...any)                                         = logger.Debug
	_ func(l *logger.Logger, format string, args ...any)                       = (*logger.Logger).Fatalf

	_ func([]string, ...goverseclient.Option) (*goverseclient.Client, error) = goverseclient.NewClient
	_ func(*goverseclient.Client, context.Context) error                     = (*goverseclient.Client).Connect
	_ func(*goverseclient.Client) error                                      = (*goverseclient.Client).Close
	_ func(*goverseclient.Client, context.Context) error                     = (*goverseclient.Client).Reconnect
	_ func(*goverseclient.Client) bool                                       = (*goverseclient.Client).IsConnected
	_ func(*goverseclient.Client) string                                     = (*goverseclient.Client).ClientID
	_ func(*goverseclient.Client) string                                     = (*goverseclient.Client).CurrentAddress
	_ func(*goverseclient.Client) <-chan proto.Message                       = (*goverseclient.Client).MessageChan
	_ func(*goverseclient.Client, context.Context) error                     = (*goverseclient.Client).WaitForConnection

	_ = []any{
		(*goverseclient.Client).CallObject, (*goverseclient.Client).CallObjectAny, (*goverseclient.Client).ReliableCallObject,
		(*goverseclient.Client).CreateObject, (*goverseclient.Client).DeleteObject,
		goverseclient.WithConnectionTimeout, goverseclient.WithCallTimeout, goverseclient.WithReconnectInterval, goverseclient.WithGRPCDialOptions,
		goverseclient.WithLogger, goverseclient.WithOnConnect, goverseclient.WithOnDisconnect, goverseclient.WithOnMessage,
	}
	_ func(*goverseclient.Client, context.Context, string, string) (*goverseclient.Subscription, error) = (*goverseclient.Client).Subscribe
	_ func(*goverseclient.Subscription, context.Context) (goverseclient.Update, error)                  = (*goverseclient.Subscription).Next
	_ func(*goverseclient.Subscription, context.Context) iter.Seq2[goverseclient.Update, error]         = (*goverseclient.Subscription).Updates
	_ func(*goverseclient.Subscription)                                                                 = (*goverseclient.Subscription).Unsubscribe
	_                                                                                                   = goverseclient.UpdatesOf[proto.Message, proto.Message]

	_ = []error{goverseclient.ErrUnsubscribed, goverseclient.ErrNoAddresses, goverseclient.ErrNotConnected, goverseclient.ErrClientClosed, goverseclient.ErrConnectionFailed}
	_ = []goverse_pb.ReliableCallStatus{goverse_pb.ReliableCallStatus_UNKNOWN, goverse_pb.ReliableCallStatus_PENDING,
		goverse_pb.ReliableCallStatus_SUCCESS, goverse_pb.ReliableCallStatus_FAILED, goverse_pb.ReliableCallStatus_SKIPPED}

	_ = gate_pb.GateServiceClient(nil)
	_ = server.ServerConfig{
		ListenAddress: "", AdvertiseAddress: "", MetricsListenAddress: "", EtcdAddress: "", EtcdPrefix: "", MinQuorum: 0, NodeStabilityDuration: 0,
		ShardMappingCheckInterval: 0, NumShards: 0, InspectorAddress: "", DefaultCallTimeout: 0, DefaultCreateTimeout: 0, DefaultDeleteTimeout: 0,
	}
	_ = gateserver.GateServerConfig{
		ListenAddress: "", AdvertiseAddress: "", HTTPListenAddress: "", OpsListenAddress: "", EtcdAddress: "", EtcdPrefix: "", NumShards: 0,
		InspectorAddress: "", DefaultCallTimeout: 0, DefaultCreateTimeout: 0, DefaultDeleteTimeout: 0,
	}
	_ = postgres.Config{Host: "", Port: 0, User: "", Password: "", Database: "", SSLMode: "", MaxOpenConns: 0, MaxIdleConns: 0}
)

// Visitor is a client object as older programs have them.
type Visitor struct{ goverseapi.BaseClient }

func (v *Visitor) Greet(ctx context.Context, words *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	return wrapperspb.String(v.ClientID(ctx)), v.PushMessage(ctx, words)
}

func TestLegacyClientObject(t *testing.T) {
	goversetest.Run(t, goversetest.Cluster{Types: []goversetest.Type{goversetest.Of((*Visitor)(nil))}}, func(w *goversetest.World) {
		ann, bob := w.Connect(), w.Connect()
		for _, c := range []*goversetest.Client{ann, bob} {
			if got := c.Call("Visitor/v", "Greet", wrapperspb.String("hello "+c.ID())); !proto.Equal(got, wrapperspb.String(c.ID())) {
				t.Errorf("it speaks for %v", got)
			}
			if m := c.Next(); !proto.Equal(m, wrapperspb.String("hello "+c.ID())) {
				t.Errorf("its client got %v", m)
			}
		}
	})
}
