package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/most"
	"github.com/xiaonanln/goverse/object"
)

// Bounds of a Condition's lists. What is beyond them is in its numbers.
const (
	maxToldShards  = 32 // that are on their way
	maxToldRunning = 32
	maxToldQueues  = 32
	maxToldOutlets = 64
)

// Condition is what goes on in a node, for those who look for what is wrong with it. Its
// parts are looked at one after the other, while the node works. Times are in seconds.
type Condition struct {
	Shards     ShardsCondition     `json:"shards"`
	Objects    ObjectsCondition    `json:"objects"`
	Executions ExecutionsCondition `json:"executions"`
	// Running are the methods that have been seen running for the longest.
	Running []RunningMethod `json:"running"`
	// Queues are the objects for whose turns the most calls wait.
	Queues []ObjectQueue `json:"queues"`
	// Outlets are the ways to the gates, those first where the most waits.
	Outlets []OutletCondition `json:"outlets"`
	// OutletsInAll is how many there are, and Pushes how many were made here.
	OutletsInAll int    `json:"outlets_in_all"`
	Pushes       uint64 `json:"pushes"`
}

// ShardsCondition is about the shards that the node holds, by their state, and about the
// calls that wait for one to change.
type ShardsCondition struct {
	Open        int           `json:"open"`
	Draining    int           `json:"draining"`
	Leaving     int           `json:"leaving"`
	Moving      []MovingShard `json:"moving"` // of draining and leaving ones those that have been it for the longest
	Parked      int           `json:"parked"` // calls
	ParkedBytes int64         `json:"parked_bytes"`
	Staged      int           `json:"staged_bytes"` // what came of shards that this node is to hold
}

// MovingShard is one that is on its way to another node.
type MovingShard struct {
	Shard   int     `json:"shard"`
	State   string  `json:"state"` // draining or leaving
	Seconds float64 `json:"seconds"`
	Objects int     `json:"objects"` // that live in it
	Parked  int     `json:"parked"`
}

// ObjectsCondition counts what lives here.
type ObjectsCondition struct {
	Live  int64           `json:"live"`
	Max   int             `json:"max"`
	Types []TypeCondition `json:"types"` // by name
}

// TypeCondition counts the activations of one type, by their state, and who waits for them.
type TypeCondition struct {
	Type        string `json:"type"`
	Loading     int    `json:"loading"`
	Live        int    `json:"live"`
	Closing     int    `json:"closing"`
	Running     int    `json:"running"` // methods
	Queued      int    `json:"queued"`  // calls that wait for a turn
	Unsaved     int    `json:"unsaved"` // objects that have changed since they were stored last
	Activations uint64 `json:"activations"`
}

// ExecutionsCondition is how many calls are under way, and may be.
type ExecutionsCondition struct {
	InFlight int   `json:"in_flight"`
	Limit    int64 `json:"limit"` // now; it follows the latency
	Max      int   `json:"max"`
}

// RunningMethod is one that runs.
type RunningMethod struct {
	Type   string `json:"type"`
	ID     string `json:"id"`
	Method string `json:"method"`
	// Seconds is for how long it has been seen running: it runs for longer, by up to the
	// pause between two looks at all objects, which is 10 s at most. 0: nobody has seen it yet.
	Seconds float64 `json:"seconds"`
}

// ObjectQueue is who waits for one object.
type ObjectQueue struct {
	Type    string  `json:"type"`
	ID      string  `json:"id"`
	Waiting int     `json:"waiting"`
	Bytes   int     `json:"bytes"`   // of their requests
	Seconds float64 `json:"seconds"` // the first of them
}

// OutletCondition is the way to one gate.
type OutletCondition struct {
	Gate      string `json:"gate"`
	Connected bool   `json:"connected"`
	Waiting   int    `json:"waiting"` // pushes that are to be sent
	Bytes     int    `json:"bytes"`   // of these
	Sent      int    `json:"sent"`    // pushes that are kept, in case that the gate has not heard them
	SentBytes int    `json:"sent_bytes"`
}

// Condition looks at all that lives here, one asker at a time.
func (n *Node) Condition(ctx context.Context) (*Condition, error) {
	select {
	case n.census.pages <- struct{}{}:
		defer func() { <-n.census.pages }()
	case <-ctx.Done():
		return nil, fault.Waited(ctx, "while others were told of what lives here").On("Condition", n.cfg.Address)
	}
	look := newRound(n)
	for i := range n.slots {
		if i%256 == 0 && ctx.Err() != nil {
			return nil, fault.Waited(ctx, "while the node was looked through").On("Condition", n.cfg.Address)
		}
		look.slot(&n.slots[i])
	}
	return look.told(), nil
}

// round is one look at everything.
type round struct {
	node    *Node
	now     time.Time
	shards  ShardsCondition
	types   map[*object.Type]*TypeCondition
	moving  *most.Of[MovingShard]
	running *most.Of[RunningMethod]
	queues  *most.Of[ObjectQueue]
}

func newRound(n *Node) *round {
	return &round{
		node: n, now: time.Now(), types: map[*object.Type]*TypeCondition{},
		moving: most.New(maxToldShards, func(a, b MovingShard) int {
			return cmp.Or(cmp.Compare(a.Seconds, b.Seconds), cmp.Compare(b.Shard, a.Shard))
		}),
		running: most.New(maxToldRunning, func(a, b RunningMethod) int {
			return cmp.Or(cmp.Compare(a.Seconds, b.Seconds), cmp.Compare(b.Type, a.Type), cmp.Compare(b.ID, a.ID), cmp.Compare(b.Method, a.Method))
		}),
		queues: most.New(maxToldQueues, func(a, b ObjectQueue) int {
			return cmp.Or(cmp.Compare(a.Waiting, b.Waiting), cmp.Compare(b.Type, a.Type), cmp.Compare(b.ID, a.ID))
		}),
	}
}

func (r *round) slot(s *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.acts.all() {
		r.activation(a)
	}
	r.shards.Parked += s.lot.calls
	if s == r.node.pinned() {
		return
	}
	switch s.state {
	case open:
		r.shards.Open++
	case draining:
		r.shards.Draining++
	case leaving:
		r.shards.Leaving++
	}
	if s.state == draining || s.state == leaving {
		state := "draining"
		if s.state == leaving {
			state = "leaving"
		}
		r.moving.Add(MovingShard{s.shard, state, r.now.Sub(s.since).Seconds(), s.acts.count, s.lot.calls})
	}
}

func (r *round) activation(a *activation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := r.types[a.typ]
	if t == nil {
		t = &TypeCondition{Type: a.typ.Name, Activations: r.node.headsOf(a.typ).activations.Load()}
		r.types[a.typ] = t
	}
	switch a.phaseLocked() {
	case "loading":
		t.Loading++
	case "closing":
		t.Closing++
	default:
		t.Live++
	}
	if a.save != nil && a.unsavedLocked() {
		t.Unsaved++
	}
	clock := r.node.executions.since(r.now)
	for f := a.frames.head; f != nil; f = f.next {
		t.Running++
		m := RunningMethod{Type: a.ref.Type, ID: a.ref.ID, Method: f.info.Chain.Path[len(f.info.Chain.Path)-1].Method}
		if f.met > 0 {
			m.Seconds = max(0, clock-f.met).Seconds()
		}
		r.running.Add(m)
	}
	if waiting := a.turns.waiting(); len(waiting) > 0 {
		t.Queued += len(waiting)
		r.queues.Add(ObjectQueue{a.ref.Type, a.ref.ID, len(waiting), a.turns.bytes, max(0, clock-waiting[0].since).Seconds()})
	}
}

// told puts together what was seen.
func (r *round) told() *Condition {
	n := r.node
	c := &Condition{
		Shards:     r.shards,
		Objects:    ObjectsCondition{Live: n.live.Load(), Max: n.cfg.MaxActivations, Types: []TypeCondition{}},
		Executions: ExecutionsCondition{n.executions.inFlight(), n.executions.limit.Load(), n.cfg.MaxExecutions},
		Running:    r.running.List(), Queues: r.queues.List(),
		Pushes: n.pushes.made.Load(),
	}
	c.Shards.Moving, c.Shards.ParkedBytes, c.Shards.Staged = r.moving.List(), n.parked.Load(), n.stages.size()
	for _, t := range r.types {
		c.Objects.Types = append(c.Objects.Types, *t)
	}
	slices.SortFunc(c.Objects.Types, func(a, b TypeCondition) int { return cmp.Compare(a.Type, b.Type) })
	c.Outlets, c.OutletsInAll = n.pushes.conditions()
	return c
}

func (s *stages) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// conditions is about the outlets where the most waits, and how many there are.
func (p *pushes) conditions() (list []OutletCondition, all int) {
	top := most.New(maxToldOutlets, func(a, b OutletCondition) int {
		return cmp.Or(cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(b.Gate, a.Gate))
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.outlets {
		top.Add(o.condition())
	}
	return top.List(), len(p.outlets)
}

// condition may be asked under the pushes' mutex, as put is.
func (o *outlet) condition() OutletCondition {
	o.mu.Lock()
	defer o.mu.Unlock()
	return OutletCondition{
		Gate: o.gate, Connected: o.current != nil,
		Waiting: len(o.queue) - o.sent, Bytes: o.waitB, Sent: o.sent, SentBytes: o.sentB,
	}
}
