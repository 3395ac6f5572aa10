package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// Bounds of what other nodes may lay here.
const (
	maxStaged       = 256 << 20 // bytes
	maxHandovers    = 4         // of one shard: the oldest is forgotten for a fifth
	maxHandoverName = 128       // bytes of a hand-over's id

	// stageIdle is after how long without a frame a stage makes room where there is
	// none: no hand-over lasts that long.
	stageIdle = 2 * time.Minute
)

// Staging names a hand-over for which state is laid here.
type Staging struct {
	Shard    sharding.ID
	Handover string
	Holder   string // "<address>#<registration>" of who hands over
	Epoch    uint64 // under which it holds the shard
}

// stages keeps what other nodes laid here for shards that they may hand over. It is
// out of every call's reach until Open names its hand-over.
type stages struct {
	mu     sync.Mutex
	bytes  int
	shards map[sharding.ID]*shelf
	over   map[sharding.ID]string // the hand-over by which a shard came here last
}

// shelf is what is kept for one shard.
type shelf struct {
	kept []*stage // the oldest first
	lost []string // hand-overs that were forgotten for newer ones; the last few
}

// stage is what is kept of one hand-over.
type stage struct {
	Staging
	seq     uint64 // all frames up to this one have come
	bytes   int
	objects map[object.Ref]peer.Staged
	touched time.Time // when a frame came last
}

// ServeStage implements peer.Service. Everything of the stage is kept, or nothing.
// The node does not know under which registration it serves, so whoever does must
// have compared Target with it.
func (n *Node) ServeStage(ctx context.Context, in *peer.Stage) error {
	if err := n.checkStage(ctx, in); err != nil {
		return fault.Of(err).On("Stage", fmt.Sprintf("shard %d", in.Shard))
	}
	if err := n.stages.put(in); err != nil {
		return fault.Of(err).On("Stage", fmt.Sprintf("shard %d", in.Shard))
	}
	return nil
}

// checkStage refuses what makes no sense here.
func (n *Node) checkStage(ctx context.Context, in *peer.Stage) error {
	switch {
	case ctx.Err() != nil:
		return fault.Waited(ctx, "before the stage was kept")
	case in.Shard < 0 || in.Shard >= n.cfg.NumShards:
		return fault.New(fault.Invalid, "there is no such shard: there are %d", n.cfg.NumShards)
	case in.Handover == "" || len(in.Handover) > maxHandoverName:
		return fault.New(fault.Invalid, "a hand-over's id has 1 to %d bytes, not %d", maxHandoverName, len(in.Handover))
	case in.Epoch == 0 || in.Holder == "":
		return fault.New(fault.Invalid, "a stage names its sender and the epoch under which that holds the shard")
	case n.stopping.Load():
		return errNodeLeaves
	case !n.started():
		return fault.New(fault.NotReady, "this node has not begun to run")
	}
	s := &n.slots[in.Shard]
	s.mu.Lock()
	state, epoch := s.state, s.life.epoch
	s.mu.Unlock()
	if state != shut && epoch >= in.Epoch {
		return &fault.Error{Kind: fault.WrongHolder, Shard: in.Shard, Epoch: epoch, Holder: n.cfg.Address,
			Err: fmt.Errorf("this node holds the shard at epoch %d, the sender had it at %d", epoch, in.Epoch)}
	}
	for i := range in.Objects {
		if err := n.checkStaged(s, &in.Objects[i]); err != nil {
			return fault.New(fault.KindOf(err), "object %s: %w", in.Objects[i].Ref, err)
		}
	}
	return nil
}

// checkStaged refuses an object that could not come alive here.
func (n *Node) checkStaged(s *slot, o *peer.Staged) error {
	if err := object.ValidID(o.Ref.ID); err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	typ, ok := n.cfg.Types.Lookup(o.Ref.Type)
	if _, pinned := sharding.PinnedNode(o.Ref.ID); pinned || sharding.GetShardID(o.Ref.ID, n.cfg.NumShards) != s.shard {
		return fault.New(fault.Invalid, "it is not of shard %d", s.shard)
	}
	switch {
	case !ok:
		return fault.New(fault.UnknownType, "no such type is registered here")
	case o.Seq == 0:
		return fault.New(fault.Invalid, "its frame has no number")
	case o.Gone:
		return nil
	case !typ.Persistent || n.durability(typ, s) != object.Volatile:
		return fault.New(fault.Invalid, "objects of its type do not take their state along here; the nodes must agree on types and stores")
	case len(o.State) > MaxStateBytes:
		return fault.New(fault.TooLarge, "its state has %d bytes; at most %d are allowed", len(o.State), MaxStateBytes)
	}
	if _, err := unpackAny(o.State); err != nil {
		return fault.New(fault.Invalid, "its state is not a message: %w", err)
	}
	return nil
}

// put keeps a stage. Frames count from 1 for each hand-over and come in order, so a
// frame that leaves a gap shows that the hand-over's beginning was forgotten.
func (k *stages) put(in *peer.Stage) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := sharding.ID(in.Shard)
	if k.over[id] == in.Handover {
		return fault.New(fault.WrongHolder, "the hand-over has taken place")
	}
	if sh := k.shards[id]; sh != nil && slices.Contains(sh.lost, in.Handover) {
		return fault.New(fault.WrongHolder, "the hand-over was forgotten for a newer one")
	}
	st := k.find(id, in.Handover)
	if st == nil {
		st = &stage{Staging: Staging{id, in.Handover, in.Holder, in.Epoch}, objects: map[object.Ref]peer.Staged{}}
	}
	if st.Holder != in.Holder || st.Epoch != in.Epoch {
		return fault.New(fault.Invalid, "the hand-over belongs to %s at epoch %d", st.Holder, st.Epoch)
	}
	fresh, seq, growth, err := st.news(in.Objects)
	switch {
	case err != nil:
		return err
	case !k.makeRoom(growth, st):
		e := fault.New(fault.Overloaded, "%d MiB of state are laid here already", k.bytes>>20)
		e.RetryAfter = parkRetry
		return e
	}
	for _, o := range fresh {
		st.objects[o.Ref] = o
	}
	st.seq, st.bytes, k.bytes = seq, st.bytes+growth, k.bytes+growth
	st.touched = time.Now()
	k.shelve(st)
	return nil
}

// news is what of objects is newer than what is kept, and by how much it makes the
// stage larger.
func (st *stage) news(objects []peer.Staged) (fresh map[object.Ref]peer.Staged, seq uint64, growth int, err error) {
	fresh, seq = map[object.Ref]peer.Staged{}, st.seq
	for _, o := range objects {
		switch {
		case o.Seq <= seq:
			continue // it came before
		case o.Seq > seq+1:
			return nil, 0, 0, fault.New(fault.Invalid, "frame %d came, but of the hand-over's earlier ones only %d are here", o.Seq, seq)
		}
		seq++
		old, ok := fresh[o.Ref]
		if !ok {
			old, ok = st.objects[o.Ref]
		}
		if ok {
			growth -= old.Size()
		}
		growth += o.Size()
		fresh[o.Ref] = o
	}
	return fresh, seq, growth, nil
}

func (k *stages) find(id sharding.ID, handover string) *stage {
	if sh := k.shards[id]; sh != nil {
		for _, st := range sh.kept {
			if st.Handover == handover {
				return st
			}
		}
	}
	return nil
}

// shelve files a stage that is not filed yet.
func (k *stages) shelve(st *stage) {
	sh := k.shards[st.Shard]
	if sh == nil {
		sh = &shelf{}
		if k.shards == nil {
			k.shards = map[sharding.ID]*shelf{}
		}
		k.shards[st.Shard] = sh
	}
	if slices.Contains(sh.kept, st) {
		return
	}
	if len(sh.kept) == maxHandovers {
		k.forget(sh, sh.kept[0])
	}
	sh.kept = append(sh.kept, st)
}

// forget drops a stage and notes that it was there.
func (k *stages) forget(sh *shelf, st *stage) {
	k.bytes -= st.bytes
	sh.kept = slices.DeleteFunc(sh.kept, func(other *stage) bool { return other == st })
	if len(sh.lost) == maxHandovers {
		sh.lost = slices.Delete(sh.lost, 0, 1)
	}
	sh.lost = append(sh.lost, st.Handover)
}

// makeRoom forgets what nobody needs any more, for st to grow: it says whether that is
// enough. A holder that tries again has given its earlier attempts up.
func (k *stages) makeRoom(growth int, st *stage) bool {
	for k.bytes+growth > maxStaged {
		sh, victim := k.leastNeeded(st)
		if victim == nil {
			return false
		}
		k.forget(sh, victim)
	}
	return true
}

// leastNeeded is a stage that its holder has given up, or else that nobody has added to
// for long, the longest; never st itself.
func (k *stages) leastNeeded(st *stage) (at *shelf, victim *stage) {
	for id, sh := range k.shards {
		newer := slices.Clone(sh.kept)
		if id == st.Shard && !slices.Contains(newer, st) {
			newer = append(newer, st)
		}
		for i, old := range sh.kept {
			switch {
			case old == st || old.bytes == 0:
			case slices.ContainsFunc(newer[i+1:], func(s *stage) bool { return s.Holder == old.Holder && s.Epoch == old.Epoch }):
				return sh, old
			case time.Since(old.touched) >= stageIdle && (victim == nil || old.touched.Before(victim.touched)):
				at, victim = sh, old
			}
		}
	}
	return at, victim
}

// Staged lists the hand-overs for which other nodes have laid state here, by shard,
// for one shard the oldest first.
func (n *Node) Staged() []Staging {
	k := &n.stages
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []Staging
	for _, sh := range k.shards {
		for _, st := range sh.kept {
			list = append(list, st.Staging)
		}
	}
	slices.SortStableFunc(list, func(a, b Staging) int { return cmp.Compare(a.Shard, b.Shard) })
	return list
}

// Unstage forgets hand-overs that will not take place.
func (n *Node) Unstage(list []Staging) {
	k := &n.stages
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, gone := range list {
		sh := k.shards[gone.Shard]
		if sh == nil {
			continue
		}
		sh.kept = slices.DeleteFunc(sh.kept, func(st *stage) bool {
			if st.Handover != gone.Handover {
				return false
			}
			k.bytes -= st.bytes
			return true
		})
		if len(sh.kept) == 0 && len(sh.lost) == 0 {
			delete(k.shards, gone.Shard)
		}
	}
}

// take ends what is kept for a shard that this node holds now. What was laid for the
// claim's own hand-over counts, once: at the epoch that it made, or at a later one
// that was minted because the store knew that already. lost says that there was
// something, and it is not here any more.
func (k *stages) take(c Claim) (objects map[object.Ref]*peer.Staged, lost bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	sh := k.shards[c.Shard]
	if c.Handover != "" { // what of it comes from now on comes too late
		if k.over == nil {
			k.over = map[sharding.ID]string{}
		}
		k.over[c.Shard] = c.Handover
	}
	if sh == nil {
		return nil, false
	}
	delete(k.shards, c.Shard)
	lost = c.Handover != "" && slices.Contains(sh.lost, c.Handover)
	for _, st := range sh.kept {
		k.bytes -= st.bytes
		switch {
		case c.Handover == "" || st.Handover != c.Handover:
		case st.Epoch >= c.Epoch:
			lost = true
		default:
			objects = st.living()
		}
	}
	return objects, lost
}

// living is the objects that have a state.
func (st *stage) living() map[object.Ref]*peer.Staged {
	all := make(map[object.Ref]*peer.Staged, len(st.objects))
	for ref, o := range st.objects {
		if !o.Gone {
			all[ref] = &o
		}
	}
	return all
}

// arrival is an activation that is to begin with the state that came with its shard.
type arrival struct {
	act  *activation
	seed *peer.Staged
}

// revive makes activations of the slot's staged objects, whose previous ones here
// have ended. s.mu is held; bringUp must follow without it.
func (s *slot) revive() (all []arrival) {
	if len(s.staged) == 0 || s.state == shut || s.node.stopping.Load() {
		return nil
	}
	for ref, o := range s.staged {
		if s.acts.find(ref) != nil {
			continue
		}
		delete(s.staged, ref)
		typ, _ := s.node.cfg.Types.Lookup(ref.Type) // registered when the stage was kept, and for ever
		s.node.live.Add(1)                          // whatever the bound: it is the only copy
		a := s.add(ref, typ)
		a.loadOp = object.OpCall
		all = append(all, arrival{a, o})
	}
	return all
}

// bringUp loads activations from the state that came with their shard. Calls wait for
// them as for any that is being loaded.
func bringUp(all []arrival) {
	for _, r := range all {
		r.act.node.running.Go(func() {
			defer r.act.mournLoss() // also where the object's code ends this goroutine
			r.act.load(func(a *activation) error { return a.rise(r.seed) })
		})
	}
}

// mournLoss says that an object which came with its shard could not be restored. Its
// callers are told; then it begins anew.
func (a *activation) mournLoss() {
	err := a.loadErr()
	if on := a.node.on.Notice; err != nil && on != nil {
		on(event.Notice{Severity: event.Alarm, From: "node",
			Text: "the state of " + a.ref.String() + " came with its shard, could not be restored and is lost", Err: err})
	}
}
