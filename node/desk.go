package node

import (
	"slices"
	"sync"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// Bounds of one desk.
const (
	deskBuckets = 8 * 38 // latencies up to 18 minutes; longer ones are in the last
	deskEdges   = 256
	deskObjects = 64  // of which calls are counted
	deskRecent  = 128 // calls that are remembered
	deskLooked  = 8   // objects that somebody looks at,
	lookedCalls = 32  // and their calls that are remembered
	lookedFor   = 30 * time.Second
)

// desk counts the calls of some objects.
type desk struct {
	mu     sync.Mutex // protects following fields
	types  map[*object.Type]*typeCount
	edges  map[edge]uint64
	busy   sketch
	recent trail
	looked map[object.Ref]*looked
}

type typeCount struct {
	calls, errors uint64
	buckets       [deskBuckets]uint64
}

type edge struct {
	from string
	to   *object.Type
}

// looked is an object that somebody looks at: its calls are not pushed out by others'.
type looked struct {
	until time.Time
	trail
}

// deskCall is a call that has ended.
type deskCall struct {
	ref     object.Ref
	typ     *object.Type
	method  string
	from    caller
	began   time.Time
	took    time.Duration
	failed  bool
	kind    fault.Kind
	reached bool // the object, perhaps
}

func (d *desk) note(c *deskCall) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.types[c.typ]
	if t == nil {
		if d.types == nil {
			d.types, d.edges = map[*object.Type]*typeCount{}, map[edge]uint64{}
		}
		t = new(typeCount)
		d.types[c.typ] = t
	}
	t.calls++
	if c.failed {
		t.errors++
	}
	t.buckets[min(bucketOf(c.took), deskBuckets-1)]++
	d.noteEdge(edge{c.from.kind, c.typ})
	if !c.reached { // ids that somebody makes up push nobody out
		return
	}
	d.busy.add(c.ref)
	l := d.looked[c.ref]
	if l != nil && c.began.After(l.until) {
		delete(d.looked, c.ref)
		l = nil
	}
	if l != nil {
		l.add(c, lookedCalls)
	}
	d.recent.add(c, deskRecent)
}

// noteEdge counts a call along e.
func (d *desk) noteEdge(e edge) {
	if _, known := d.edges[e]; !known && len(d.edges) >= deskEdges {
		e.from = peer.FromOther
	}
	d.edges[e]++
}

// tell adds up what the desk has.
func (d *desk) tell(types map[*object.Type]*typeTotal, edges map[edge]uint64, s *peer.Survey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for typ, count := range d.types {
		total := types[typ]
		if total == nil { // none of its objects ever lived here
			total = &typeTotal{TypeSurvey: peer.TypeSurvey{Type: typ.Name}}
			types[typ] = total
		}
		total.Calls += count.calls
		total.Errors += count.errors
		for i, calls := range count.buckets {
			total.buckets[i] += calls
		}
	}
	for e, calls := range d.edges {
		edges[e] += calls
	}
	for _, o := range d.busy.list {
		s.Top = append(s.Top, peer.ObjectSurvey{Ref: o.ref, Calls: o.calls, Excess: o.excess})
	}
}

// look is what the desk remembers of an object's calls, the newest first. From now on it
// remembers more of them.
func (d *desk) look(ref object.Ref, now time.Time) (calls []peer.LookedCall) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.looked[ref]
	if l == nil {
		if l = d.seat(now); l == nil {
			return d.recent.of(ref)
		}
		for _, c := range d.recent.newest() {
			if c.ref == ref && len(l.calls) < lookedCalls {
				l.calls = append(l.calls, c)
			}
		}
		slices.Reverse(l.calls)
		d.looked[ref] = l
	}
	l.until = now.Add(lookedFor)
	return l.of(ref)
}

// seat makes room for one more object that is looked at; nil: there is none.
func (d *desk) seat(now time.Time) *looked {
	for ref, l := range d.looked {
		if now.After(l.until) {
			delete(d.looked, ref)
		}
	}
	if len(d.looked) >= deskLooked {
		return nil
	}
	if d.looked == nil {
		d.looked = map[object.Ref]*looked{}
	}
	return new(looked)
}

// trail is the newest of many calls.
type trail struct {
	calls []deskCall
	next  int // the oldest, once it is full
}

func (t *trail) add(c *deskCall, most int) {
	if len(t.calls) < most {
		t.calls = append(t.calls, *c)
		return
	}
	t.calls[t.next] = *c
	t.next = (t.next + 1) % most
}

// newest is all of them, the newest first.
func (t *trail) newest() []deskCall {
	list := make([]deskCall, 0, len(t.calls))
	list = append(append(list, t.calls[t.next:]...), t.calls[:t.next]...)
	slices.Reverse(list)
	return list
}

// of is those of one object, the newest first, as they are shown.
func (t *trail) of(ref object.Ref) (calls []peer.LookedCall) {
	for _, c := range t.newest() {
		if c.ref != ref || len(calls) == lookedCalls {
			continue
		}
		outcome := "ok"
		if c.failed {
			outcome = c.kind.String()
		}
		calls = append(calls, peer.LookedCall{Method: c.method, Caller: c.from.String(), At: c.began, Took: c.took, Outcome: outcome})
	}
	return calls
}

// sketch finds the objects that are called most among any number, in bounded memory. It
// is the Space-Saving algorithm of Metwally, Agrawal and El Abbadi ("Efficient
// Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005): a stranger
// takes the place of the least, with its count, which is by how much the stranger's own
// may be too high. Whoever has more than one of deskObjects calls is surely in it.
type sketch struct {
	list  []sketched
	place map[object.Ref]int
}

type sketched struct {
	ref           object.Ref
	calls, excess uint64
}

func (s *sketch) add(ref object.Ref) {
	if i, known := s.place[ref]; known {
		s.list[i].calls++
		return
	}
	if s.place == nil {
		s.place = make(map[object.Ref]int, deskObjects)
	}
	if len(s.list) < deskObjects {
		s.place[ref] = len(s.list)
		s.list = append(s.list, sketched{ref: ref, calls: 1})
		return
	}
	least := 0
	for i := range s.list {
		if s.list[i].calls < s.list[least].calls {
			least = i
		}
	}
	out := &s.list[least]
	delete(s.place, out.ref)
	s.place[ref] = least
	*out = sketched{ref: ref, calls: out.calls + 1, excess: out.calls}
}
