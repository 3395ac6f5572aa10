package cluster

import (
	"context"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/peer"
)

// Host is the node of this process as coordination sees it. Run gets it as an
// argument; a gate has none. Coordination alone opens and closes shards, one
// change at a time per shard; ServeCall, ServePushes and Interrupt run concurrently
// with it.
type Host interface {
	peer.Service

	// Open takes up shards that this node holds in etcd: it stamps the store, then
	// lets calls in. A shard that the store knows at a fence as high or higher is not
	// opened, and is returned with that fence. With an error none was opened.
	Open(ctx context.Context, tenure Tenure, claims []Claim) (refused []Refusal, err error)

	// Confirm stamps the store anew for shards that are open, under the claims by which
	// they were opened, and changes nothing else. Those that the store knows at a fence
	// as high or higher are returned with it: somebody else has held them meanwhile, and
	// Drop must follow. With an error nothing is known.
	Confirm(ctx context.Context, tenure Tenure, claims []Claim) (refused []Refusal, err error)

	// Drain empties a shard that nobody takes: new root calls are parked, running chains
	// finish, state is committed, activations end, and then what is parked is sent away.
	// When it returns nil the shard is closed; with an error it is still open and still
	// draining.
	Drain(ctx context.Context, shard sharding.ID) error

	// Vacate empties a shard so that it can be handed over: new root calls are parked,
	// running chains finish, state is committed, live state is laid at the next holder
	// with m.Stage. nil: nothing runs in the shard any more and nothing gets in, its
	// activations are still there, and HandedOver, Resume or Drop must follow. With an
	// error, because ctx ended or a stage was refused, it is still draining, and Resume
	// or Drop must follow.
	Vacate(ctx context.Context, shard sharding.ID, m Move) error

	// HandedOver ends a vacated shard that etcd has given to another node: its
	// activations end, its parked calls are sent to address, at epoch.
	HandedOver(shard sharding.ID, address string, epoch uint64)

	// Resume opens shards again that Vacate worked on, under the claim that they have:
	// their parked calls run.
	Resume(shards []sharding.ID)

	// Staged lists the hand-overs for which other nodes have laid state here, and
	// Unstage forgets some: they will not take place.
	Staged() []Staging
	Unstage(list []Staging)

	// Drop closes shards at once: their right to serve has ended. Running calls
	// fail as Fenced before their replies leave.
	Drop(shards []sharding.ID, reason string)

	// Interrupt cancels the contexts of all calls that run now, because this node's lease
	// is not trusted any more; reason says so. Shards stay open and activations live: if
	// the lease is trusted again, calls go on being served. A call that was interrupted
	// is answered as Fenced, unless its own save has proved that it counts. Trusted says
	// no until Confirm has found the shards to be this node's still.
	Interrupt(reason string)

	// Lost yields shards that the host has shut by itself, because its store gave their
	// fences to somebody else. What etcd says of them decides what follows.
	Lost() <-chan sharding.ID

	// Rewound is closed while the host's store goes on with another history than the host:
	// a backup was put back, or a standby took over that was behind. The host has shut its
	// shards by itself, but for what is opened meanwhile; Adopt must follow. Then the next
	// Rewound is another channel. May be called concurrently.
	Rewound() <-chan struct{}

	// Adopt shuts what is open of the shards and goes on with the store as it is now. No
	// Open may be under way. Each shard that was open before must be opened at a fresh
	// epoch. With an error the store is not used, and it is to be tried again.
	Adopt(ctx context.Context) error
}

// Tenure is the registration under which shards are held.
type Tenure struct {
	Owner   string      // "<address>#<registration>": the owner of the store's fences
	Trusted func() bool // whether this node may still speak for it; asked for every call and again for every reply
}

// Claim is one shard that this node holds at Epoch.
type Claim struct {
	Shard    sharding.ID
	Epoch    uint64
	Handover string // the hand-over that made it so, whose stage counts; "" for none
}

// Move is how a shard leaves for another node.
type Move struct {
	// Stage lays objects at the next holder: nil means that it has them.
	Stage func(ctx context.Context, objects []peer.Staged) error
	// Patience is for how long running calls may go on undisturbed; then their
	// contexts are cancelled. Zero is for as long as ctx lives.
	Patience time.Duration
}

// Staging is a hand-over for which state is laid at its target.
type Staging struct {
	Shard    sharding.ID
	Handover string
	Holder   string // "<address>#<registration>" of who hands over
	Epoch    uint64 // under which it holds the shard
}

// Refusal is a shard that the store would not stamp because it knows Epoch, of
// another owner or higher.
type Refusal struct {
	Shard sharding.ID
	Epoch uint64
	Owner string
}
