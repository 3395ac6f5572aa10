// Package api holds the public contract as programs: what a user of Goverse may
// write compiles, runs and does what the text says.
package api

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	"github.com/xiaonanln/goverse/object"
	chat_pb "github.com/xiaonanln/goverse/samples/chat/proto"
	"github.com/xiaonanln/goverse/test/pg"
	"github.com/xiaonanln/goverse/util/logger"
	"github.com/xiaonanln/goverse/util/postgres"
)

// The statements between the seed marks are the design's own, to the letter. Around
// them stand the imports, declarations and returns that a snippet leaves out.

// seed: distributed object
type ChatRoom struct {
	goverseapi.BaseObject
	mu       sync.Mutex
	users    map[string]bool
	messages []*chat_pb.ChatMessage
}

func (room *ChatRoom) Join(ctx context.Context, req *chat_pb.JoinRequest) (*chat_pb.JoinResponse, error) {
	room.mu.Lock()
	defer room.mu.Unlock()

	room.users[req.GetUserName()] = true
	// ... implementation
	// seed: end
	response := &chat_pb.JoinResponse{Messages: room.messages}
	for name := range room.users {
		response.Users = append(response.Users, name)
	}
	return response, nil
}

func (room *ChatRoom) OnCreated() { room.users = map[string]bool{} }

func TestSeedObject(t *testing.T) {
	cluster := goversetest.Cluster{Types: []goversetest.Type{goversetest.Of((*ChatRoom)(nil))}}
	goversetest.Run(t, cluster, func(w *goversetest.World) {
		w.Want("ChatRoom/general", "Join", &chat_pb.JoinRequest{UserName: "ann"}, &chat_pb.JoinResponse{Users: []string{"ann"}})
	})
}

func TestSeedServerConfig(t *testing.T) {
	// seed: server configuration
	config := &goverseapi.ServerConfig{
		// Node communication
		ListenAddress:    "localhost:47000", // Internal gRPC port
		AdvertiseAddress: "localhost:47000", // Address other nodes use

		// Cluster coordination
		EtcdAddress: "localhost:2379", // etcd endpoint
		EtcdPrefix:  "/goverse",       // Key prefix for isolation

		// Cluster behavior
		MinQuorum:             3,                // Minimum nodes required
		NodeStabilityDuration: 10 * time.Second, // Rebalancing delay
	}
	// seed: end
	s, err := goverseapi.NewServerWithConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if s.Address() != "localhost:47000" {
		t.Errorf("the server advertises %s", s.Address())
	}
}

func TestSeedGateConfig(t *testing.T) {
	// seed: gate configuration
	config := &gateserver.GateServerConfig{
		ListenAddress:    ":49000",          // Client connection port
		AdvertiseAddress: "localhost:49000", // Address clients use
		EtcdAddress:      "localhost:2379",  // etcd endpoint
		EtcdPrefix:       "/goverse",        // Key prefix for isolation
	}
	// seed: end
	if _, err := gateserver.NewGateServer(config); err != nil {
		t.Fatal(err)
	}
}

func TestSeedLogger(t *testing.T) {
	err, details := os.ErrNotExist, "a detail"
	out := captureLog(t, func() {
		logger.SetLevel(logger.LevelDebug)
		defer logger.SetLevel(logger.LevelInfo)
		// seed: logging
		logger.Info("Starting operation")
		logger.Error("Operation failed: %v", err)
		logger.Debug("Debug information: %s", details)
		// seed: end
	})
	for _, want := range []string{
		"INFO: Starting operation",
		"ERROR: Operation failed: file does not exist",
		"DEBUG: Debug information: a detail",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the log has no line %q:\n%s", want, out)
		}
	}
}

// localPostgres has the snippet's server where the tests have theirs: on another port.
type localPostgres struct{ port int }

func (l localPostgres) DefaultConfig() *postgres.Config {
	config := postgres.DefaultConfig()
	config.Port = l.port
	return config
}

func (localPostgres) NewDB(config *postgres.Config) (*postgres.DB, error) {
	return postgres.NewDB(config)
}

func (localPostgres) NewPostgresPersistenceProvider(db *postgres.DB) *postgres.Provider {
	return postgres.NewPostgresPersistenceProvider(db)
}

func TestSeedPersistence(t *testing.T) {
	server := pg.Private(t)
	server.DatabaseNamed(t, "goverse")
	s, err := goverseapi.NewServerWithConfig(&goverseapi.ServerConfig{EtcdAddress: "localhost:2379"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, node, postgres := t.Context(), s.Node, localPostgres{server.Port()}
	// seed: persistence
	// PostgreSQL connection
	config := postgres.DefaultConfig()
	config.Host = "localhost"
	config.Database = "goverse"
	config.User = "goverse"
	config.Password = "goverse"

	db, err := postgres.NewDB(config)
	db.InitSchema(ctx)

	// Set as node's persistence provider
	provider := postgres.NewPostgresPersistenceProvider(db)
	node.SetPersistenceProvider(provider)
	// seed: end
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := provider.SaveObject(ctx, "ChatRoom", "general", []byte(`{"a":1}`)); err != nil {
		t.Error(err)
	}
	if node.PersistenceProvider() != object.PersistenceProvider(provider) {
		t.Error("the node has another provider")
	}
}
