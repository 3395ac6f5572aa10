package cluster

import (
	"context"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/peer"
)

// Host is the node of this process as coordination sees it. Run gets it as an
// argument; a gate has none. Coordination alone opens and closes shards, one
// change at a time per shard; ServeCall and ServePushes run concurrently with it.
type Host interface {
	peer.Service

	// Open takes up shards that this node holds in etcd: it stamps the store, then
	// lets calls in. A shard that the store knows at a fence as high or higher is not
	// opened, and is returned with that fence. With an error none was opened.
	Open(ctx context.Context, tenure Tenure, claims []Claim) (refused []Refusal, err error)

	// Drain empties a shard: new root calls are refused as Draining, running chains
	// finish, state is committed, activations end. When it returns nil the shard is
	// closed; with an error it is still open and still draining.
	Drain(ctx context.Context, shard sharding.ID) error

	// Drop closes shards at once: their right to serve has ended. Running calls
	// fail as Fenced before their replies leave.
	Drop(shards []sharding.ID, reason string)

	// Lost yields shards that the host has shut by itself, because its store gave their
	// fences to somebody else. What etcd says of them decides what follows.
	Lost() <-chan sharding.ID
}

// Tenure is the registration under which shards are held.
type Tenure struct {
	Owner   string      // "<address>#<registration>": the owner of the store's fences
	Trusted func() bool // whether the registration's lease still lets this node speak; asked for every call and again for every reply
}

// Claim is one shard that this node holds at Epoch.
type Claim struct {
	Shard sharding.ID
	Epoch uint64
}

// Refusal is a shard that the store would not stamp because it knows Epoch, of
// another owner or higher.
type Refusal struct {
	Shard sharding.ID
	Epoch uint64
	Owner string
}
