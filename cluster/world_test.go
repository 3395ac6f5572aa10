package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is etcd, a network and a store of fences, all in memory, with some nodes and
// gates in it.
type world struct {
	*testing.T
	etcd   *memkv.Store
	net    *peer.Network
	fences *fences
	notes  notes
	all    []*process
	quiet  bool
}

// bubble runs body in a world whose time is its own. At its end every process has
// left and nothing of it runs.
func bubble(t *testing.T, body func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, etcd: memkv.NewStore(), net: peer.NewNetwork(), fences: &fences{m: map[sharding.ID]fence{}}}
		defer w.etcd.Close()
		defer w.end()
		body(w)
	})
}

func (w *world) end() {
	for _, p := range w.all {
		p.conn.Set(memkv.Healthy)
		p.stop()
	}
	for _, p := range w.all {
		<-p.done
		if err := p.conn.Close(); err != nil {
			w.Error(err)
		}
	}
}

// process is a node or a gate.
type process struct {
	w    *world
	c    *Cluster
	host *host // nil in a gate
	conn *memkv.Conn
	stop context.CancelFunc
	done chan struct{}
	err  error // of Run, after done

	lingers time.Duration // for how long it answers after Run
}

// node starts a node of 16 shards; change may alter its configuration.
func (w *world) node(address string, change ...func(*Config)) *process {
	return w.start(address, false, change)
}

// startQuiet starts a node of which nobody in the network knows: another has its
// address there.
func (w *world) startQuiet(address string, change ...func(*Config)) *process {
	w.quiet = true
	defer func() { w.quiet = false }()
	return w.start(address, false, change)
}

func (w *world) gate(address string) *process { return w.start(address, true, nil) }

func (w *world) start(address string, gate bool, change []func(*Config)) *process {
	w.Helper()
	conn := w.etcd.Connect()
	cfg := Config{
		Address: address, Gate: gate, KVs: []etcdmanager.KV{conn}, Dialer: w.net.Dialer(address),
		NumShards: 16, StoreID: "store-1", StabilityDelay: time.Second, DrainBudget: 5 * time.Second, Listener: w.notes.listener(address),
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		w.Fatal(err)
	}
	p := &process{w: w, c: c, conn: conn, done: make(chan struct{})}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	var h Host
	unlisten := func() {}
	if !gate {
		p.host = newHost(w, address)
		h = p.host
		if !w.quiet {
			unlisten = w.net.Listen(address, c.Serve(p.host))
		}
	}
	go func() {
		defer close(p.done)
		p.err = c.Run(ctx, h)
		time.Sleep(p.lingers)
		unlisten()
	}()
	w.all = append(w.all, p)
	return p
}

// leave ends a process as SIGTERM does.
func (p *process) leave() {
	p.w.Helper()
	p.stop()
	<-p.done
	if p.err != nil {
		p.w.Errorf("%s left with: %v", p.c.cfg.Address, p.err)
	}
}

// cut is a process that etcd no longer hears.
func (p *process) cut() { p.conn.Set(memkv.Cut) }

// ready waits for processes to be ready, a virtual minute at the longest.
func (w *world) ready(list ...*process) {
	w.Helper()
	for _, p := range list {
		select {
		case <-p.c.Ready():
		case <-p.done:
			w.Fatalf("%s ended before it was ready: %v", p.c.cfg.Address, p.err)
		case <-time.After(time.Minute):
			w.Fatalf("%s is not ready: %q\n%v", p.c.cfg.Address, p.c.Problems(), p.c.View())
		}
	}
}

// views waits for some views of p, as long as there are more soon.
func (w *world) views(p *process, n int) {
	for range n {
		await(context.Background(), p.c.View(), time.Second)
	}
}

// settle waits until check says "", a virtual minute at the longest.
func (w *world) settle(check func() string) {
	w.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		why := check()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			w.Fatal(why)
		}
	}
}

// holds waits until the processes serve all shards between them, each on one.
func (w *world) holds(list ...*process) {
	w.Helper()
	w.settle(func() string {
		seen := map[sharding.ID]string{}
		for _, p := range list {
			for id := range p.host.serving() {
				seen[id] = p.c.cfg.Address
			}
		}
		if len(seen) != 16 {
			return fmt.Sprintf("%d shards are served\n%v", len(seen), list[0].c.View())
		}
		return ""
	})
}

// ask calls an object through a process and returns which node answered.
func (p *process) ask(id string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	reply, err := p.c.Call(ctx, object.Call{Ref: object.Ref{Type: "Room", ID: id}, Method: "Who"})
	return string(reply.JSON), err
}

// host is a node without objects: it opens shards, answers with its name, and lets
// the world see whether two ever serve one shard.
type host struct {
	w       *world
	address string

	mu     sync.Mutex // protects following fields
	open   map[sharding.ID]uint64
	tenure Tenure
	fail   error                // of Open
	refuse map[sharding.ID]bool // shards whose Drain fails
	unfit  error                // of Vacate
	answer func(*peer.Request) error
	recall func(context.Context) error // what is stored; nil: it is told

	catalog func(ctx context.Context, known string) (object.Catalog, error) // nil: it is not told
	opened  int

	confirms int
	dropped  []string    // the reasons of Drops
	stopped  []time.Time // the times of Interrupts
	gates    map[string]func(peer.PushFrame) error
	reports  []peer.GateSurvey
	watched  bool // somebody surveys

	vacant map[sharding.ID]bool // shut, to be handed over
	staged map[Staging]int      // how many objects were laid here
	moved  int                  // shards that came with their stage

	lost    chan sharding.ID
	rewound chan struct{} // closed: the store was put back, and this host has noticed
	foreign error         // of Adopt
	adopts  int
	opening int           // Opens under way
	slow    chan struct{} // not nil: Open waits until it is closed
}

func (h *host) Lost() <-chan sharding.ID { return h.lost }

func (h *host) Rewound() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rewound
}

// astray: it has shut its shards by itself. h.mu is held.
func (h *host) astray() bool {
	select {
	case <-h.rewound:
		return true
	default:
		return false
	}
}

// notice shuts all shards, because the store was put back.
func (h *host) notice() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shut()
	close(h.rewound)
}

func (h *host) shut() {
	clear(h.open)
	clear(h.vacant)
}

func (h *host) Adopt(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shut()
	if h.opening > 0 {
		h.w.Errorf("%s is to adopt while %d openings are under way", h.address, h.opening)
	}
	if h.foreign != nil || ctx.Err() != nil {
		return errors.Join(h.foreign, ctx.Err())
	}
	h.adopts++
	h.rewound = make(chan struct{})
	return nil
}

func newHost(w *world, address string) *host {
	return &host{w: w, address: address, rewound: make(chan struct{}), lost: make(chan sharding.ID, sharding.NumShards), open: map[sharding.ID]uint64{}, refuse: map[sharding.ID]bool{}, gates: map[string]func(peer.PushFrame) error{},
		vacant: map[sharding.ID]bool{}, staged: map[Staging]int{}}
}

func (h *host) Open(ctx context.Context, tenure Tenure, claims []Claim) ([]Refusal, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opening++
	defer func() { h.opening-- }()
	if slow := h.slow; slow != nil {
		h.mu.Unlock()
		<-slow
		h.mu.Lock()
	}
	if h.fail != nil {
		return nil, h.fail
	}
	if h.astray() {
		return nil, object.ErrOtherHistory
	}
	refused := h.w.fences.stamp(tenure.Owner, claims)
	h.tenure = tenure
	for _, c := range claims {
		if !slices.ContainsFunc(refused, func(r Refusal) bool { return r.Shard == c.Shard }) {
			if at, twice := h.open[c.Shard]; twice && at != c.Epoch {
				h.w.Errorf("%s was to open shard %d twice", h.address, c.Shard)
			}
			h.open[c.Shard] = c.Epoch
			h.opened++
			h.unpack(c)
		}
	}
	return refused, nil
}

// Confirm stamps what is open, and nothing else.
func (h *host) Confirm(ctx context.Context, tenure Tenure, claims []Claim) ([]Refusal, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		return nil, h.fail
	}
	h.confirms++
	return h.w.fences.stamp(tenure.Owner, claims), nil
}

// empties waits for a shard whose calls do not end.
func (h *host) empties(ctx context.Context, id sharding.ID) error {
	h.mu.Lock()
	stuck := h.refuse[id]
	h.mu.Unlock()
	if !stuck {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (h *host) Drain(ctx context.Context, id sharding.ID) error {
	if err := h.empties(ctx, id); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.open[id]; !ok && !h.astray() {
		h.w.Errorf("%s was to drain shard %d, which is not open", h.address, id)
	}
	delete(h.open, id)
	return nil
}

// unpack takes what was staged for a claim. h.mu is held.
func (h *host) unpack(c Claim) {
	for st, n := range h.staged {
		if st.Shard == c.Shard {
			delete(h.staged, st)
			if st.Handover == c.Handover && st.Epoch < c.Epoch && n > 0 {
				h.moved++
			}
		}
	}
}

func (h *host) Vacate(ctx context.Context, id sharding.ID, m Move) error {
	if err := h.empties(ctx, id); err != nil {
		return err
	}
	h.mu.Lock()
	unfit := h.unfit
	h.mu.Unlock()
	if unfit != nil {
		return unfit
	}
	if err := m.Stage(ctx, []peer.Staged{{Ref: object.Ref{Type: "Room", ID: "x"}, Seq: 1}}); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.open[id]; !ok && ctx.Err() == nil {
		if h.astray() {
			return fault.New(fault.WrongHolder, "shard %d was shut", id)
		}
		h.w.Errorf("%s was to vacate shard %d, which is not open", h.address, id)
	}
	h.vacant[id] = true
	return nil
}

func (h *host) HandedOver(id sharding.ID, address string, epoch uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if was, ok := h.open[id]; !h.astray() && (!ok || !h.vacant[id] || epoch != was+1 || address == h.address) {
		h.w.Errorf("%s handed shard %d to %s at epoch %d: open %v at %d, vacant %v", h.address, id, address, epoch, ok, was, h.vacant[id])
	}
	delete(h.open, id)
	delete(h.vacant, id)
}

func (h *host) Resume(list []sharding.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range list {
		if _, ok := h.open[id]; !ok && !h.astray() {
			h.w.Errorf("%s was to resume shard %d, which is not open", h.address, id)
		}
		delete(h.vacant, id)
	}
}

func (h *host) ServeStage(_ context.Context, stage *peer.Stage) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.staged[Staging{Shard: sharding.ID(stage.Shard), Handover: stage.Handover, Holder: stage.Holder, Epoch: stage.Epoch}] += len(stage.Objects)
	return nil
}

func (h *host) Staged() []Staging {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.staged))
}

func (h *host) Unstage(list []Staging) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, st := range list {
		delete(h.staged, st)
	}
}

func (h *host) Drop(list []sharding.ID, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropped = append(h.dropped, reason)
	for _, id := range list {
		if _, ok := h.open[id]; !ok && !h.astray() {
			h.w.Errorf("%s was to drop shard %d, which is not open", h.address, id)
		}
		delete(h.open, id)
		delete(h.vacant, id)
	}
}

// Interrupt notes when the lease's trust was over.
func (h *host) Interrupt(string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tenure.Trusted != nil && h.tenure.Trusted() {
		h.w.Errorf("%s was interrupted while its lease is trusted", h.address)
	}
	h.stopped = append(h.stopped, time.Now())
}

func (h *host) interrupts() []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.stopped)
}

func (h *host) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// serving is the shards that it would run calls of, with their epochs.
func (h *host) serving() map[sharding.ID]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tenure.Trusted == nil || !h.tenure.Trusted() {
		return nil
	}
	open := maps.Clone(h.open)
	for id := range h.vacant {
		delete(open, id)
	}
	return open
}

func (h *host) ServeCall(_ context.Context, req *peer.Request) (object.Payload, error) {
	h.mu.Lock()
	answer := h.answer
	h.mu.Unlock()
	if answer != nil {
		if err := answer(req); err != nil {
			return object.Payload{}, err
		}
	}
	if _, pinned := sharding.PinnedNode(req.Ref.ID); pinned {
		return object.OfJSON([]byte(h.address)), nil
	}
	epoch, ok := h.serving()[sharding.ID(req.Shard)]
	if !ok {
		e := fault.New(fault.WrongHolder, "shard %d is not here", req.Shard)
		e.Shard = req.Shard
		return object.Payload{}, e
	}
	if req.Epoch != epoch {
		h.w.Errorf("%s serves shard %d at epoch %d and was asked for %d", h.address, req.Shard, epoch, req.Epoch)
	}
	return object.OfJSON([]byte(h.address)), nil
}

// ListObjects tells who was asked.
func (h *host) ListObjects(ctx context.Context, objType, _ string, _ int) ([]object.Listed, error) {
	h.mu.Lock()
	recall := h.recall
	h.mu.Unlock()
	if recall != nil {
		if err := recall(ctx); err != nil {
			return nil, err
		}
	}
	return []object.Listed{{Ref: object.Ref{Type: objType, ID: h.address}}}, nil
}

func (h *host) StoredState(ctx context.Context, ref object.Ref) (object.Record, error) {
	_, err := h.ListObjects(ctx, ref.Type, "", 0)
	return object.Record{Data: []byte(h.address)}, err
}

// Catalog is that of a node which has the types that the test gave it.
func (h *host) Catalog(ctx context.Context, known string) (object.Catalog, error) {
	h.mu.Lock()
	catalog := h.catalog
	h.mu.Unlock()
	if catalog == nil {
		return object.Catalog{}, fault.New(fault.NotReady, "this node tells nothing")
	}
	return catalog(ctx, known)
}

func (h *host) Survey(context.Context) (*peer.Survey, error) { return &peer.Survey{Since: 1}, nil }

func (h *host) LiveObjects(context.Context, peer.LiveQuery) ([]peer.LiveObject, error) {
	return nil, nil
}

func (h *host) Look(context.Context, object.Ref, bool) (*peer.Sight, error) {
	return new(peer.Sight), nil
}

func (h *host) Deactivate(context.Context, object.Ref, bool) (bool, error) { return false, nil }

// Report notes who reported.
func (h *host) Report(_ context.Context, g peer.GateSurvey) (bool, error) {
	h.set(func() { h.reports = append(h.reports, g) })
	return h.watched, nil
}

func (h *host) ServeProbe(context.Context, *peer.Probe) ([]string, error) { return nil, nil }

func (h *host) ServePushes(ctx context.Context, hearing peer.Hearing, ready func(peer.Opening), deliver func(peer.PushFrame) error) error {
	h.set(func() { h.gates[hearing.Gate] = deliver })
	ready(peer.Opening{})
	<-ctx.Done()
	h.set(func() { delete(h.gates, hearing.Gate) })
	return ctx.Err()
}

// fences is the store's table of who may write.
type fences struct {
	greedy bool // somebody else is always a step ahead

	mu sync.Mutex // protects following field
	m  map[sharding.ID]fence
}

type fence struct {
	epoch uint64
	owner string
}

func (f *fences) stamp(owner string, claims []Claim) (refused []Refusal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range claims {
		if f.greedy {
			f.m[c.Shard] = fence{c.Epoch + 3, "10.9.9.9:1#elsewhere"}
		}
		if old := f.m[c.Shard]; old.epoch > c.Epoch || old.epoch == c.Epoch && old.owner != owner {
			refused = append(refused, Refusal{Shard: c.Shard, Epoch: old.epoch, Owner: old.owner})
			continue
		}
		f.m[c.Shard] = fence{c.Epoch, owner}
	}
	return refused
}

func (f *fences) of(id sharding.ID) fence {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.m[id]
}

func (f *fences) set(id sharding.ID, epoch uint64, owner string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m[id] = fence{epoch, owner}
}

// watchHolders fails the test if two processes ever serve a shard at once. Nothing
// stands still while it looks, so whoever was seen first must still serve the shard,
// at the same epoch, after the other was seen to.
func (w *world) watchHolders(until <-chan struct{}) {
	type holder struct {
		p     *process
		epoch uint64
	}
	for {
		seen := map[sharding.ID]holder{}
		for _, p := range w.all {
			if p.host == nil {
				continue
			}
			for id, epoch := range p.host.serving() {
				if first, ok := seen[id]; ok && first.p.host.serving()[id] == first.epoch {
					w.Errorf("shard %d is served by %s and %s", id, first.p.c.cfg.Address, p.c.cfg.Address)
				}
				seen[id] = holder{p, epoch}
			}
		}
		select {
		case <-until:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// notes is what the processes had to say.
type notes struct {
	mu   sync.Mutex // protects following field
	list []string
}

func (n *notes) listener(who string) event.Listener {
	return event.Listener{
		Notice:       func(e event.Notice) { n.add(fmt.Sprintf("%s: %d %v", who, e.Severity, e)) },
		Coordination: func(e event.Coordination) { n.add(fmt.Sprintf("%s: %s: %s: %v", who, e.Step, e.Detail, e.Err)) },
	}
}

func (n *notes) add(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, line)
}

func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list)
}

var errStore = errors.New("the store is away")
