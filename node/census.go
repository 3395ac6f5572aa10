package node

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

var _ peer.Census = (*Node)(nil)

// Bounds of a census.
const (
	surveyFor  = 10 * time.Second // after a survey calls are counted for so long
	reportFor  = 15 * time.Second // a gate that has not reported for so long is forgotten
	maxReports = 1024             // gates
	maxEdges   = 512              // that a survey tells of
	maxTop     = 64               // objects
)

// census is what the node knows of its own load. What happens seldom is always counted.
// Calls are counted only while somebody surveys the node; else they are not even timed
// for it.
type census struct {
	commits atomic.Uint64
	heads   sync.Map                 // *object.Type → *headcount
	count   atomic.Pointer[counting] // nil: nobody looks
	pages   chan struct{}            // held by who goes through all objects

	mu    sync.Mutex // protects following fields and the writes of count
	until time.Time  // calls are counted
	lapse *time.Timer
	ended bool
	gates map[string]report
}

// headcount is about the objects of one type.
type headcount struct {
	live, queued atomic.Int64
	activations  atomic.Uint64
}

// report is what a gate has reported.
type report struct {
	peer.GateSurvey
	at time.Time
}

// counting is what was counted since somebody began to look. A call belongs to the desk
// of its object, so a busy object's calls meet at one lock, as they do at its turn.
type counting struct {
	id    uint64
	began time.Time
	desks [desks]desk
}

const desks = 16

// headsOf is the headcount of a type.
func (n *Node) headsOf(t *object.Type) *headcount {
	if h, ok := n.census.heads.Load(t); ok {
		return h.(*headcount)
	}
	h, _ := n.census.heads.LoadOrStore(t, new(headcount))
	return h.(*headcount)
}

// watch has calls counted for some time.
func (c *census) watch() *counting {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.count.Load()
	if c.ended {
		return now
	}
	if now == nil {
		now = &counting{id: rand.Uint64() | 1, began: time.Now()}
		c.count.Store(now)
	}
	if c.until = time.Now().Add(surveyFor); c.lapse == nil {
		c.lapse = time.AfterFunc(surveyFor, c.look)
	}
	return now
}

// look ends the counting once nobody has surveyed for some time.
func (c *census) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := time.Until(c.until); left > 0 && !c.ended {
		c.lapse.Reset(left)
		return
	}
	c.count.Store(nil)
	c.lapse = nil
}

// end stops the counting for good.
func (c *census) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.count.Store(nil)
	if c.lapse != nil {
		c.lapse.Stop()
	}
}

// note counts a call that has ended. What names no type of this node's is nobody's.
func (c *counting) note(n *Node, ctx context.Context, req *peer.Request, took time.Duration, err error) {
	t, ok := n.cfg.Types.Lookup(req.Ref.Type)
	if !ok {
		return
	}
	c.desk(req.Ref).note(&deskCall{
		ref: req.Ref, typ: t, method: req.Method, from: callerOf(callctx.From(ctx)), began: time.Now().Add(-took), took: took,
		failed: err != nil, kind: fault.KindOf(err), reached: err == nil || fault.OutcomeOf(err) != fault.NotExecuted,
	})
}

func (c *counting) desk(ref object.Ref) *desk { return &c.desks[hashOf(ref)%desks] }

// caller is who made a call.
type caller struct {
	kind   string       // the type of the object that did, or peer.From…
	client string       // the client's id, if it has one
	turn   callctx.Turn // of an object
}

func callerOf(info *callctx.Info) caller {
	switch path := info.Chain.Path; {
	case len(path) > 0:
		last := path[len(path)-1]
		return caller{kind: last.Type, turn: last}
	case info.ByClient():
		return caller{kind: peer.FromClient, client: info.Caller.ClientID}
	}
	return caller{kind: peer.FromProgram}
}

// String is how a caller is shown.
func (c *caller) String() string {
	switch {
	case c.turn.Type != "":
		return c.turn.String()
	case c.client != "":
		return c.kind + " " + c.client
	}
	return c.kind
}

// Survey implements peer.Census.
func (n *Node) Survey(context.Context) (*peer.Survey, error) {
	if n.stopping.Load() {
		return nil, errNodeLeaves
	}
	s := &peer.Survey{Executions: int64(n.executions.inFlight()), Commits: n.census.commits.Load(), Gates: n.census.reports(), Now: time.Now()}
	types := n.surveyTypes(s)
	c := n.census.watch()
	if c == nil {
		return nil, errNodeLeaves
	}
	s.Since, s.Age = c.id, time.Since(c.began)
	edges := map[edge]uint64{}
	for i := range c.desks {
		c.desks[i].tell(types, edges, s)
	}
	for _, name := range n.cfg.Types.Names() {
		if t, ok := n.cfg.Types.Lookup(name); ok && types[t] != nil {
			s.Types = append(s.Types, types[t].survey())
		}
	}
	for e, calls := range edges {
		s.Edges = append(s.Edges, peer.EdgeSurvey{From: e.from, To: e.to.Name, Calls: calls})
	}
	slices.SortFunc(s.Edges, func(a, b peer.EdgeSurvey) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	slices.SortFunc(s.Top, func(a, b peer.ObjectSurvey) int {
		return cmp.Or(cmp.Compare(b.Calls-b.Excess, a.Calls-a.Excess), cmp.Compare(a.Ref.Type, b.Ref.Type), cmp.Compare(a.Ref.ID, b.Ref.ID))
	})
	s.Edges, s.Top = s.Edges[:min(len(s.Edges), maxEdges)], s.Top[:min(len(s.Top), maxTop)]
	return s, nil
}

// surveyTypes is what is always counted.
func (n *Node) surveyTypes(s *peer.Survey) map[*object.Type]*typeTotal {
	types := map[*object.Type]*typeTotal{}
	n.census.heads.Range(func(t, h any) bool {
		heads := h.(*headcount)
		total := &typeTotal{TypeSurvey: peer.TypeSurvey{
			Type: t.(*object.Type).Name, Objects: heads.live.Load(), Queued: heads.queued.Load(), Activations: heads.activations.Load(),
		}}
		types[t.(*object.Type)] = total
		s.Objects += total.Objects
		return true
	})
	return types
}

// typeTotal puts together what the desks have of a type.
type typeTotal struct {
	peer.TypeSurvey
	buckets [deskBuckets]uint64
}

func (t *typeTotal) survey() peer.TypeSurvey {
	for i, calls := range t.buckets {
		if calls > 0 {
			t.Latency = append(t.Latency, peer.Bucket{UpTo: bucketEnd(i), Calls: calls})
		}
	}
	return t.TypeSurvey
}

// Report implements peer.Census.
func (n *Node) Report(_ context.Context, g peer.GateSurvey) (watched bool, err error) {
	if object.ValidID(g.Address) != nil {
		return false, fault.New(fault.Invalid, "a gate without an address reports")
	}
	c := &n.census
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked()
	if _, known := c.gates[g.Address]; !known && len(c.gates) >= maxReports {
		return false, fault.New(fault.Overloaded, "%d gates report to this node", maxReports)
	}
	if c.gates == nil {
		c.gates = map[string]report{}
	}
	c.gates[g.Address] = report{g, time.Now()}
	return c.count.Load() != nil, nil
}

// forgetLocked forgets the gates that report no more.
func (c *census) forgetLocked() {
	for address, r := range c.gates {
		if time.Since(r.at) > reportFor {
			delete(c.gates, address)
		}
	}
}

// reports is what the gates have reported lately, by address.
func (c *census) reports() (list []peer.GateSurvey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked()
	for _, r := range c.gates {
		r.Ago = time.Since(r.at)
		list = append(list, r.GateSurvey)
	}
	slices.SortFunc(list, func(a, b peer.GateSurvey) int { return cmp.Compare(a.Address, b.Address) })
	return list
}
