// Package node hosts objects: it activates them, gives their calls turns, keeps
// their state, and sends what they push. It knows no network, no etcd and no
// database; coordination tells it which shards it holds (it is a cluster's host),
// and a store is a value that the program hands in.
package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/access"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/logger"
)

// Config is what a node is made of.
type Config struct {
	Address   string // advertised; the prefix of ids that are pinned to this node
	NumShards int    // 0 = sharding.NumShards
	Types     *object.Types

	// Call runs a call wherever its object lives: the way out of a method.
	Call func(ctx context.Context, call object.Call) (object.Payload, error)

	// Probe asks the node of the probe's object; nil: circles of chains that go through
	// other nodes are not looked for.
	Probe func(ctx context.Context, probe *peer.Probe) (circle []string, err error)

	DegradedMode DegradedMode

	Listener event.Listener
	Tracer   callctx.Tracer // nil: nothing is traced; see SetTracer
	Logger   *logger.Logger // what objects log to; nil = the default logger

	// MaxActivations bounds how many objects live in memory at once: over it the ones that
	// were used longest ago make room, or new ones are refused as Overloaded. Objects that
	// come with a shard are taken in beyond it. 0 = DefaultMaxActivations.
	MaxActivations int

	// MaxExecutions bounds how many calls are under way at once, those aside that wait for
	// an object's turn or for a shard. More root calls are refused as Overloaded, and
	// earlier ones where calls take much longer than usual, but never while there are
	// fewer than 64. 0 = DefaultMaxExecutions.
	MaxExecutions int

	// Access says who may call, create and delete; nil allows everything.
	Access *access.Rules

	// AutoLoad are objects that live as long as their shards are held, or the node lives.
	AutoLoad []object.AutoLoad

	// Interceptors run around every method, the first outermost; see object.Interceptor.
	Interceptors []object.Interceptor

	// CopyMessages gives each side of a call its own copy of the request and the reply, and
	// looks for objects that change what they would share without it. It is for tests and
	// for finding mistakes.
	CopyMessages bool

	// StopTimeout bounds how long Run waits for methods that still run. 0 = 5 s.
	StopTimeout time.Duration
}

// Node hosts objects. Make it with New, run it with Run; all other methods may be
// called concurrently.
//
// Lock order: slot.mu, then activation.mu; waits.mu, then activation.mu; stages.mu
// alone. None is held across user code, I/O or a channel send that could wait.
type Node struct {
	cfg   Config
	on    event.Listener
	world context.Context // what objects' own contexts are made of: it carries the node
	slots []slot          // one for each shard, and one for ids that are pinned to this node
	deck  deck            // of slots, for who samples them

	parked     atomic.Int64 // bytes of requests that wait at slots
	live       atomic.Int64 // activations, those that are ending among them
	fullAt     atomic.Int64 // when nothing could make room, in ns since 1970
	watchdog   watchdog
	marked     uint64 // the garbage collection after which the sweep looked at the heap last
	stages     stages
	executions executions
	loads      loads
	census     census
	rules      atomic.Pointer[access.Rules] // see SetAccess
	copies     *copies                      // nil: messages are shared

	commits  *commits                   // nil without a store
	exactly  object.ExactlyOnceProvider // nil without one that keeps results
	past     past
	outbox   outbox
	waits    waits
	pushes   pushes
	running  sync.WaitGroup // goroutines of activations
	stopping atomic.Bool
	lost     chan sharding.ID

	interval atomic.Int64 // of periodic types, in ns; 0 = as they say
	pause    atomic.Int64 // between two sweeps, in ns
	resweep  chan struct{}

	warned sync.Map // type name: its loss was said
	losses sync.Map // type name: what its store lacks was looked at

	mu       sync.Mutex
	provider object.PersistenceProvider
	begun    bool // Run was called: the store is settled
}

// New makes a node. Nothing runs yet.
func New(cfg Config) *Node {
	if cfg.NumShards == 0 {
		cfg.NumShards = sharding.NumShards
	}
	if cfg.MaxActivations == 0 {
		cfg.MaxActivations = DefaultMaxActivations
	}
	if cfg.MaxExecutions == 0 {
		cfg.MaxExecutions = DefaultMaxExecutions
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = 5 * time.Second
	}
	n := &Node{cfg: cfg, on: cfg.Listener, slots: make([]slot, cfg.NumShards+1), lost: make(chan sharding.ID, cfg.NumShards), resweep: make(chan struct{}, 1)}
	n.executions.init(cfg.MaxExecutions)
	n.loads.init(cfg.AutoLoad)
	n.census.pages = make(chan struct{}, 1)
	n.rules.Store(cfg.Access)
	if cfg.CopyMessages {
		n.copies = newCopies(cfg.Listener.MessageChanged)
	}
	n.world = object.WithRuntime(context.Background(), n)
	for i := range n.slots {
		n.slots[i].node, n.slots[i].shard, n.slots[i].life = n, i, noTenure
	}
	n.outbox.init(n)
	n.past.init(cfg.Listener)
	n.pushes.on = cfg.Listener
	n.pushes.outlets = map[string]*outlet{}
	return n
}

// SetPersistenceProvider says where state is kept. It panics after the node began
// to run: a store cannot be changed under living objects.
func (n *Node) SetPersistenceProvider(p object.PersistenceProvider) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.begun {
		panic("goverse: SetPersistenceProvider was called after the server began to run; call it before Run")
	}
	n.provider = p
}

// PersistenceProvider is what SetPersistenceProvider was given, or nil.
func (n *Node) PersistenceProvider() object.PersistenceProvider {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.provider
}

// SetPersistenceInterval overrides how often periodic types are saved; 0 leaves it
// to each type.
func (n *Node) SetPersistenceInterval(d time.Duration) {
	n.interval.Store(int64(max(0, d)))
	n.sweepSooner(d)
}

// RegisterObjectType adds a type to this node's set. See object.Types.Register.
func (n *Node) RegisterObjectType(obj object.Object, opts ...object.TypeOption) error {
	return n.cfg.Types.Register(obj, opts...)
}

// Start settles the store. It must come before the first Open.
func (n *Node) Start() {
	if !n.settle() {
		return
	}
	for _, name := range n.cfg.Types.Names() {
		if t, ok := n.cfg.Types.Lookup(name); ok {
			n.sayLosses(t)
		}
	}
}

func (n *Node) settle() (first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.begun {
		return false
	}
	n.begun = true
	switch p := n.provider.(type) {
	case nil:
	case object.FencedProvider:
		n.commits = newCommits(p, keeperFor(n.cfg.DegradedMode, p), n.on, &n.census.commits)
	default:
		n.commits = newCommits(unfenced{p}, nil, n.on, &n.census.commits)
	}
	n.exactly, _ = n.provider.(object.ExactlyOnceProvider)
	if n.commits != nil {
		n.past.keeper, _ = n.provider.(object.HistoryKeeper)
		n.commits.heard = n.past.heard
	}
	return true
}

// started says that the store is settled.
func (n *Node) started() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.begun
}

// Run saves, and ends what is idle, until ctx ends; then it ends what still lives
// and leaves nothing behind. Its shards should have been drained by then. The error
// names methods that did not want to end.
func (n *Node) Run(ctx context.Context) error {
	n.Start()
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var workers sync.WaitGroup
	n.outbox.begin(background)
	workers.Go(n.outbox.wait)
	if n.commits != nil {
		workers.Go(func() { n.commits.run(background) })
		workers.Go(func() { n.collect(background) })
	}
	if len(n.loads.wanted) > 0 {
		workers.Go(func() { n.autoLoad(ctx) })
	}
	if n.past.keeper != nil {
		workers.Go(func() { n.watchHistory(background) })
	}
	n.sweep(ctx) // until ctx ends
	n.stopping.Store(true)
	n.census.end()
	err := n.endAll()
	stop()
	workers.Wait()
	return err
}

// endAll ends every activation that is left: in peace for half of the time there
// is, then at once.
func (n *Node) endAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.StopTimeout)
	defer cancel()
	peace, end := context.WithTimeout(ctx, n.cfg.StopTimeout/2)
	defer end()
	for i := range n.slots {
		n.slots[i].beginDrain()
	}
	for i := range n.slots {
		if n.slots[i].drain(peace) != nil {
			break
		}
	}
	for i := range n.slots {
		n.slots[i].drop("this node stopped")
	}
	done := make(chan struct{})
	go func() { n.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("methods still ran %v after the stop: %v", n.cfg.StopTimeout, n.busy())
	}
}

// pinned is the place of objects whose ids are pinned to this node.
func (n *Node) pinned() *slot { return &n.slots[n.cfg.NumShards] }

// busy lists what still runs, at most ten.
func (n *Node) busy() (names []string) {
	for i := range n.slots {
		s := &n.slots[i]
		s.mu.Lock()
		for a := range s.acts.all() {
			if len(names) < 10 {
				names = append(names, a.ref.String())
			}
		}
		s.mu.Unlock()
	}
	return names
}

// durability is how a type's objects are kept in slot s.
func (n *Node) durability(t *object.Type, s *slot) object.Durability {
	switch {
	case n.commits == nil, !t.Persistent, s.shard == n.cfg.NumShards:
		return object.Volatile
	case t.Durability == object.DefaultDurability:
		return object.Durable
	default:
		return t.Durability
	}
}

// canKeep refuses what a type demands and this node cannot give.
func (n *Node) canKeep(t *object.Type) error {
	if n.commits == nil && (t.Durability == object.Durable || t.Durability.Interval() > 0) {
		return fault.New(fault.NotReady, "type %s is %v but this node has no store; give it one with SetPersistenceProvider", t.Name, t.Durability)
	}
	return nil
}

// read loads an object's record, empty for one that is not stored.
func (n *Node) read(a *activation) (object.Record, error) {
	if a.keep == object.Volatile {
		return object.Record{}, nil
	}
	n.sayLosses(a.typ) // it may have been registered after the start
	done := asked(n.on, event.StoreLoad)
	record, err := n.commits.store.Load(context.Background(), a.ref)
	done(err)
	if err != nil {
		n.past.heard(err)
		return record, fault.New(fault.StoreFailed, "its stored state could not be read: %w", err).With(fault.NotExecuted)
	}
	return record, nil
}

// Call implements object.Runtime for code outside any method.
func (n *Node) Call(ctx context.Context, call object.Call) (object.Payload, error) {
	if call.OneWay {
		return object.Payload{}, n.send(object.Ref{}, callctx.From(ctx), call)
	}
	return n.cfg.Call(ctx, call)
}

// Push implements object.Runtime for code outside any method.
func (n *Node) Push(ctx context.Context, push object.Push) error {
	p, err := n.pushes.encode(push)
	if err != nil {
		return err
	}
	n.pushes.send(p)
	return nil
}
