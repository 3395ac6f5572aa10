package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Thing does what the test says: a call's context carries what its methods do, and
// the world what its other code does. Without that a Change adds one to N, and every
// method answers N.
type Thing struct {
	object.BaseObject
	N int64

	inside, readers atomic.Int32 // methods that run now
}

func (o *Thing) Change(ctx context.Context, _ *wrapperspb.StringValue) (*wrapperspb.Int64Value, error) {
	return o.run(ctx, "Change")
}

func (o *Thing) Other(ctx context.Context, _ *wrapperspb.StringValue) (*wrapperspb.Int64Value, error) {
	return o.run(ctx, "Other")
}

func (o *Thing) Read(ctx context.Context, _ *wrapperspb.StringValue) (*wrapperspb.Int64Value, error) {
	return o.run(ctx, "Read")
}

func (o *Thing) Look(ctx context.Context, _ *wrapperspb.StringValue) (*wrapperspb.Int64Value, error) {
	return o.run(ctx, "Look")
}

func (o *Thing) run(ctx context.Context, method string) (*wrapperspb.Int64Value, error) {
	if do, ok := ctx.Value(scriptKey{o.Type(), o.Id(), method}).(script); ok {
		if err := do(ctx, o); err != nil {
			return nil, err
		}
	} else if method == "Change" {
		o.N++
	}
	return wrapperspb.Int64(atomic.LoadInt64(&o.N)), nil // a Concurrent one's changes now
}

func (o *Thing) OnCreated() {
	if h := hooksOf(o); h.onCreated != nil {
		h.onCreated(o)
	}
}

func (o *Thing) OnDestroy() {
	if h := hooksOf(o); h.onDestroy != nil {
		h.onDestroy(o)
	}
}

func (o *Thing) FromData(data proto.Message) error {
	if h := hooksOf(o); h.fromData != nil {
		return h.fromData(o, data)
	}
	return o.restore(data)
}

func (o *Thing) restore(data proto.Message) error {
	if data != nil {
		o.N = data.(*wrapperspb.Int64Value).Value
	}
	return nil
}

// Kept is a Thing with a state: N.
type Kept struct{ Thing }

func (o *Kept) ToData() (proto.Message, error) {
	if h := hooksOf(&o.Thing); h.toData != nil {
		return h.toData(&o.Thing)
	}
	return wrapperspb.Int64(o.N), nil
}

type script func(ctx context.Context, o *Thing) error

type scriptKey struct{ typ, id, method string }

// worlds finds the test behind an object's own code, which has no context of a call.
var worlds sync.Map // *Node -> *world

func hooksOf(o *Thing) hooks {
	n, _ := object.RuntimeFrom(o.Context())
	found, ok := worlds.Load(n)
	if !ok {
		return hooks{} // asked at its registration
	}
	w := found.(*world)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hooks
}

// world is one node, alone: every call loops back to it.
type world struct {
	*Node
	t        testing.TB
	store    *memstore.Store            // nil: none
	provider object.PersistenceProvider // instead of store, or around it
	types    *object.Types
	trusted  atomic.Bool
	epoch    uint64
	owner    string
	stop     context.CancelFunc
	ended    chan struct{}
	runErr   error
	road     atomic.Pointer[func(object.Call) error] // what becomes of calls on their way

	mu      sync.Mutex
	hooks   hooks
	commits []int    // objects of each commit
	events  []string // activations' lives, in order
}

// hooks are what objects do in their own code.
type hooks struct {
	onCreated, onDestroy func(*Thing)
	fromData             func(*Thing, proto.Message) error
	toData               func(*Thing) (proto.Message, error)
}

func (w *world) set(f func(*hooks)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.hooks)
}

const shards = 16

type setup func(*world, *Config)

// kept gives the node a store.
func kept(w *world, _ *Config) { w.store = memstore.New() }

// start runs a node that holds all shards. Its types are Thing and Kept, with the
// options given.
func start(t testing.TB, setups ...any) *world {
	t.Helper()
	w := &world{t: t, types: object.NewTypes(), epoch: 1, owner: "n:1#a", ended: make(chan struct{})}
	w.trusted.Store(true)
	cfg := Config{Address: "n:1", NumShards: shards, Types: w.types, Listener: w.listener()}
	cfg.Call = func(ctx context.Context, call object.Call) (object.Payload, error) {
		if road := w.road.Load(); road != nil {
			if err := (*road)(call); err != nil {
				return object.Payload{}, err
			}
		}
		return w.ServeCall(ctx, &peer.Request{Call: call})
	}
	options := []object.TypeOption{object.ReadOnlyMethods("Read", "Look")}
	for _, s := range setups {
		switch s := s.(type) {
		case object.TypeOption:
			options = append(options, s)
		case func(*world, *Config):
			s(w, &cfg)
		case setup:
			s(w, &cfg)
		default:
			t.Fatalf("setup %T", s)
		}
	}
	w.Node = New(cfg)
	worlds.Store(w.Node, w)
	t.Cleanup(func() { worlds.Delete(w.Node) })
	w.must(w.RegisterObjectType((*Thing)(nil), append(options, object.WithDurability(object.DefaultDurability))...))
	w.must(w.RegisterObjectType((*Kept)(nil), options...))
	switch {
	case w.provider != nil:
		w.SetPersistenceProvider(w.provider)
	case w.store != nil:
		w.SetPersistenceProvider(w.store)
	}
	w.run()
	if w.epoch > 0 {
		w.open()
	}
	return w
}

func (w *world) run() {
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go func() { w.runErr = w.Run(ctx); close(w.ended) }()
	w.t.Cleanup(func() {
		stop()
		<-w.ended
		if w.runErr != nil && !w.t.Failed() {
			w.t.Errorf("Run: %v", w.runErr)
		}
	})
}

// close stops the node and returns what Run returned.
func (w *world) close() error {
	w.stop()
	<-w.ended
	err := w.runErr
	w.runErr = nil
	return err
}

// open takes up every shard at the world's epoch and owner.
func (w *world) open() {
	w.t.Helper()
	var claims []Claim
	for _, id := range allShards() {
		claims = append(claims, Claim{Shard: id, Epoch: w.epoch})
	}
	refused, err := w.Open(context.Background(), w.owner, w.trusted.Load, claims)
	if err != nil || len(refused) > 0 {
		w.t.Fatal("Open:", refused, err)
	}
}

func allShards() (all []sharding.ID) {
	for i := range shards {
		all = append(all, sharding.ID(i))
	}
	return all
}

func (w *world) listener() event.Listener {
	note := func(format string, args ...any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, fmt.Sprintf(format, args...))
	}
	return event.Listener{
		CommitDone: func(e event.CommitDone) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.commits = append(w.commits, e.Objects)
		},
		ObjectActivated:   func(e event.ObjectActivated) { note("+%s stored=%v", e.ID, e.Stored) },
		ObjectDeactivated: func(e event.ObjectDeactivated) { note("-%s %s", e.ID, e.Reason) },
		ObjectCreated:     func(e event.ObjectCreated) { note("created %s", e.ID) },
		ObjectDeleted:     func(e event.ObjectDeleted) { note("deleted %s", e.ID) },
		MethodPanicked: func(e event.MethodPanicked) {
			if len(e.Stack) == 0 {
				w.t.Error("a panic without its stack")
			}
			note("panic %s.%s: %v", e.ID, e.Method, e.Value)
		},
		ShardClosed: func(e event.ShardClosed) {
			if e.Reason != "drained" { // handed over, or lost
				note("closed %d: %s", e.Shard, e.Reason)
			}
		},
		Notice: func(e event.Notice) { note("notice %s", e.Text) },
	}
}

// wantEvents compares and forgets what the node said of its activations.
func (w *world) wantEvents(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := strings.Join(w.events, "; "); got != strings.Join(want, "; ") {
		w.t.Errorf("events: %s\n  want: %s", got, strings.Join(want, "; "))
	}
	w.events = nil
}

// said is what the node said of its activations and shards.
func (w *world) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.events, "; ")
}

func (w *world) forgetEvents() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = nil
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// hold stops all commits from now on and returns what lets them go. Later ones go
// as they are.
func (w *world) hold() (let func()) { return w.holdAs(memstore.Fault{}) }

// holdAs stops all commits, and lets them meet a fault.
func (w *world) holdAs(f memstore.Fault) (let func()) {
	open := make(chan struct{})
	f.Wait = open
	w.store.Fail(func(op memstore.Op) memstore.Fault {
		if op.Kind == memstore.Commit {
			return f
		}
		return memstore.Fault{}
	})
	return sync.OnceFunc(func() { w.store.Fail(nil); close(open) })
}

// call calls a method given as "Type/id.Method", or just "id.Method" of a Thing, or
// of a Kept where there is a store. Inside a method it is nested.
func (w *world) call(ctx context.Context, target string, do ...script) (int64, error) {
	ref, method := w.parse(target)
	if len(do) > 0 {
		ctx = context.WithValue(ctx, scriptKey{ref.Type, ref.ID, method}, do[0])
	}
	return number(w.send(ctx, object.Call{Ref: ref, Method: method}))
}

func number(reply object.Payload, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return reply.Message.(*wrapperspb.Int64Value).Value, nil
}

func (w *world) parse(target string) (object.Ref, string) {
	typ, rest, ok := strings.Cut(target, "/")
	if !ok {
		typ, rest = "Thing", target
		if w.store != nil {
			typ = "Kept"
		}
	}
	id, method, _ := strings.Cut(rest, ".")
	return object.Ref{Type: typ, ID: id}, method
}

func (w *world) create(ctx context.Context, target string) error {
	ref, _ := w.parse(target)
	_, err := w.send(ctx, object.Call{Op: object.OpCreate, Ref: ref})
	return err
}

func (w *world) delete(ctx context.Context, target string) error {
	ref, _ := w.parse(target)
	_, err := w.send(ctx, object.Call{Op: object.OpDelete, Ref: ref})
	return err
}

func (w *world) send(ctx context.Context, call object.Call) (object.Payload, error) {
	if rt, ok := object.RuntimeFrom(ctx); ok {
		return rt.Call(ctx, call)
	}
	return w.Call(ctx, call)
}

// want calls and demands an answer.
func (w *world) want(ctx context.Context, target string, want int64) {
	w.t.Helper()
	if got, err := w.call(ctx, target); err != nil || got != want {
		w.t.Errorf("%s is %d, %v; want %d", target, got, err, want)
	}
}

// pending is a call that runs beside the test.
type pending struct {
	n    int64
	err  error
	done chan struct{}
}

func (w *world) start(ctx context.Context, target string, do ...script) *pending {
	return begin(func() (int64, error) { return w.call(ctx, target, do...) })
}

func begin(work func() (int64, error)) *pending {
	p := &pending{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.n, p.err = work()
	}()
	return p
}

func (p *pending) wait() (int64, error) { <-p.done; return p.n, p.err }

// running says that it has not ended although nothing more can happen by itself.
func (p *pending) running() bool {
	synctest.Wait()
	return !isClosed(p.done)
}

// stored is the record of an object.
func (w *world) stored(target string) object.Record {
	w.t.Helper()
	ref, _ := w.parse(target)
	r, err := w.store.Load(context.Background(), ref)
	w.must(err)
	return r
}

func (w *world) wantStored(target string, n int64, version uint64) {
	w.t.Helper()
	r := w.stored(target)
	if r.Data == nil {
		w.t.Errorf("%s is not stored, at version %d; want %d at version %d", target, r.Version, n, version)
		return
	}
	state, err := decodeState(r.Data)
	w.must(err)
	if got := state.(*wrapperspb.Int64Value).Value; got != n || r.Version != version {
		w.t.Errorf("%s is stored as %d at version %d; want %d at version %d", target, got, r.Version, n, version)
	}
}

// isFault demands a kind and an outcome of an error.
func isFault(t testing.TB, err error, kind fault.Kind, outcome fault.Outcome) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want %v", kind)
		return
	}
	if got := fault.Of(err); got.Kind != kind || fault.OutcomeOf(got) != outcome {
		t.Errorf("%v: is %v %v; want %v %v", err, got.Kind, fault.OutcomeOf(got), kind, outcome)
	}
}

// bubble runs a test where time is its own.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// block is a script that waits until it is let go, or until its context ends.
type block struct{ entered, let chan struct{} }

func newBlock() *block {
	return &block{entered: make(chan struct{}), let: make(chan struct{})}
}

func (b *block) run(ctx context.Context, o *Thing) error {
	close(b.entered)
	<-b.let
	o.N++
	return nil
}

var bg = context.Background()

var errUser = errors.New("the user's own error")

func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(bg, d)
}
