package node

import (
	"context"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// DegradedMode says what becomes of durable objects while etcd is silent for longer than
// this node's lease may last. With a store that keeps fences they can be served on: the
// store then says, for each answer, that nobody else has taken the shard up. A save that
// it accepted says so by itself.
type DegradedMode string

const (
	DegradedAuto DegradedMode = ""    // on, if the store is on a server of its own
	DegradedOn   DegradedMode = "on"  // on, if the store is an object.FenceKeeper
	DegradedOff  DegradedMode = "off" // they are fenced, as all others
)

// confirmTimeout bounds one question to the store.
const confirmTimeout = 5 * time.Second

// keeperFor is the store that may say who the holder is, or nil.
func keeperFor(mode DegradedMode, p object.PersistenceProvider) object.FenceKeeper {
	keeper, _ := p.(object.FenceKeeper)
	own, ok := p.(object.OwnServer)
	if mode == DegradedOff || mode == DegradedAuto && !(ok && own.OwnServer()) {
		return nil
	}
	return keeper
}

// Degrades says whether this node serves durable objects while etcd is silent. It is
// settled by Start.
func (n *Node) Degrades() bool { return n.commits != nil && n.commits.keeper != nil }

// outlives says whether objects that are kept so are served without the lease's trust.
func (n *Node) outlives(keep object.Durability) bool { return keep == object.Durable && n.Degrades() }

// byStore lets the store say, in the lease's place, that this node is still the holder.
// What was read before it is asked is then the newest.
func (a *activation) byStore(ctx context.Context) error {
	if !a.node.outlives(a.keep) {
		return fault.New(fault.Fenced, "this node's lease ended while the call ran")
	}
	lost, err := a.node.commits.confirm(ctx, a.life)
	switch {
	case err != nil:
		return err
	case lost:
		a.slot.lostFence(a.node, a.life)
		return fault.New(fault.Fenced, "the store gave shard %d to another holder", a.life.shard)
	}
	return nil
}

// polls is one lane's questions to the store. A call joins the one that has not been
// asked yet, so that any number of calls cost as many statements as follow on each other.
type polls struct {
	wake chan struct{} // holds one token when there may be questions

	mu    sync.Mutex
	queue []*poll
	ended bool
}

// poll is one question: which of these fences are not the store's?
type poll struct {
	owner  string
	epochs map[int]uint64 // by shard
	lost   map[int]bool   // set before done is closed
	err    error          // the same
	done   chan struct{}
}

// confirm asks for one tenure, with all that ask meanwhile.
func (c *commits) confirm(ctx context.Context, life *tenure) (lost bool, err error) {
	p := c.lanes[life.shard%len(c.lanes)].polls.join(life)
	if p == nil {
		return false, errUnconfirmed(errStopped)
	}
	select {
	case <-p.done:
		return p.lost[life.shard], p.err
	case <-ctx.Done():
		return false, fault.Waited(ctx, "etcd is silent, and the store did not confirm in time that this node is the holder").With(fault.OutcomeUnknown)
	}
}

func errUnconfirmed(why error) error {
	return fault.New(fault.StoreFailed, "etcd is silent, and the store did not confirm that this node is the holder: %w", why).With(fault.OutcomeUnknown)
}

// join adds a tenure to a question that is still to be asked; nil after the end.
func (l *polls) join(life *tenure) *poll {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil
	}
	for _, p := range l.queue {
		if epoch, ok := p.epochs[life.shard]; p.owner == life.owner && (!ok || epoch == life.epoch) {
			p.epochs[life.shard] = life.epoch
			return p
		}
	}
	p := &poll{owner: life.owner, epochs: map[int]uint64{life.shard: life.epoch}, done: make(chan struct{})}
	l.queue = append(l.queue, p)
	poke(l.wake)
	return p
}

// next takes the next question, which nobody joins any more.
func (l *polls) next() *poll {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil
	}
	p := l.queue[0]
	l.queue = l.queue[1:]
	return p
}

// end refuses what is asked from now on.
func (l *polls) end() {
	l.mu.Lock()
	l.ended = true
	left := l.queue
	l.queue = nil
	l.mu.Unlock()
	for _, p := range left {
		p.err = errUnconfirmed(errStopped)
		close(p.done)
	}
}

// answer asks the store one question after the other until ctx ends.
func (l *polls) answer(ctx context.Context, on event.Listener, keeper object.FenceKeeper) {
	defer l.end()
	for ctx.Err() == nil {
		if p := l.next(); p != nil {
			p.ask(ctx, on, keeper)
			continue
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
		}
	}
}

func (p *poll) ask(ctx context.Context, on event.Listener, keeper object.FenceKeeper) {
	defer close(p.done)
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	fences := make([]object.Fence, 0, len(p.epochs))
	for shard, epoch := range p.epochs {
		fences = append(fences, object.Fence{Shard: shard, Epoch: epoch, Owner: p.owner})
	}
	done := asked(on, event.StoreConfirm)
	lost, err := keeper.Confirm(ctx, p.owner, fences)
	done(err)
	if err != nil {
		p.err = errUnconfirmed(err)
		return
	}
	p.lost = make(map[int]bool, len(lost))
	for _, f := range lost {
		p.lost[f.Shard] = true
	}
}
