package census

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

// Rates is how busy a cluster is. Rates are per second, latencies in microseconds.
type Rates struct {
	At    int64       `json:"at"` // unix milliseconds, of the asker's clock
	Nodes []NodeRates `json:"nodes"`
	Gates []GateRates `json:"gates"`
	Types []TypeRates `json:"types"` // one for each type on each node
	Edges []EdgeRates `json:"edges"` // the busiest
	Top   []Busiest   `json:"top"`   // the busiest first
}

// NodeRates is what one node does.
type NodeRates struct {
	Address string  `json:"address"`
	Silent  string  `json:"silent,omitempty"` // why it does not say; all else is nought then
	Objects int64   `json:"objects"`          // live
	Calls   float64 `json:"calls"`
	Errors  float64 `json:"errors"`
	P50     int64   `json:"p50"` // of the calls between the two surveys; 0: there were none
	P99     int64   `json:"p99"`
	Queued  int64   `json:"queued"` // calls that wait for a turn
	Commits float64 `json:"commits"`
}

// GateRates is what one gate does.
type GateRates struct {
	Address string  `json:"address"`
	Silent  string  `json:"silent,omitempty"` // why it does not say
	Clients int64   `json:"clients"`
	Calls   float64 `json:"calls"`
	Pushes  float64 `json:"pushes"` // to clients
}

// TypeRates is what one type's objects do on one node. In JSON it is
// [type, node, objects, calls, errors].
type TypeRates struct {
	Type, Node    string
	Objects       int64
	Calls, Errors float64
}

// MarshalJSON implements json.Marshaler.
func (r TypeRates) MarshalJSON() ([]byte, error) {
	return json.Marshal([5]any{r.Type, r.Node, r.Objects, r.Calls, r.Errors})
}

// EdgeRates is how often the objects of one type call those of another. From may also be
// "client", for calls of clients, "program", for those that a node's program makes
// outside its objects and for one-way messages, and "other" beyond what nodes tell apart.
// In JSON it is [from, to, calls].
type EdgeRates struct {
	From, To string
	Calls    float64
}

// MarshalJSON implements json.Marshaler.
func (r EdgeRates) MarshalJSON() ([]byte, error) {
	return json.Marshal([3]any{r.From, r.To, r.Calls})
}

// Busiest is one of the objects that are called most.
type Busiest struct {
	Type  string  `json:"type"`
	ID    string  `json:"id"`
	Node  string  `json:"node"`
	Calls float64 `json:"calls"`
}

// Bounds of what is told at once.
const (
	mostEdges = 256
	mostTop   = 64
	gateQuiet = 12 * time.Second // a gate that has not reported for so long is silent
)

// Meter makes rates of surveys that follow on each other. The zero value is ready. It is
// one asker's: no method may be called concurrently.
type Meter struct {
	nodes map[string]*peer.Survey
	gates map[string]gateMark
}

// gateMark is a gate's last report, and the rates up to it.
type gateMark struct {
	peer.GateSurvey
	rates GateRates
}

// Rates compares answers with those before. What was not there then has no rates yet.
// gates are those that are known to be members; others may have reported, too.
func (m *Meter) Rates(at time.Time, answers []Answer, gates []string) *Rates {
	r := &Rates{At: at.UnixMilli(), Nodes: []NodeRates{}, Gates: []GateRates{}, Types: []TypeRates{}, Edges: []EdgeRates{}, Top: []Busiest{}}
	nodes, edges := map[string]*peer.Survey{}, map[[2]string]float64{}
	for _, a := range answers {
		if a.Err != nil {
			r.Nodes = append(r.Nodes, NodeRates{Address: a.Address, Silent: a.Err.Error()})
			if was := m.nodes[a.Address]; was != nil {
				nodes[a.Address] = was // it may answer again
			}
			continue
		}
		s := span{node: a.Address, is: a.Survey, was: m.nodes[a.Address]}
		if s.was == nil || s.was.Since != s.is.Since || s.is.Age <= s.was.Age {
			s.was = nil
		}
		s.measure(r, edges)
		nodes[a.Address] = a.Survey
	}
	for e, calls := range edges {
		r.Edges = append(r.Edges, EdgeRates{e[0], e[1], round(calls)})
	}
	r.Gates = m.measureGates(answers, gates)
	m.nodes = nodes
	slices.SortFunc(r.Edges, func(a, b EdgeRates) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.From, b.From), strings.Compare(a.To, b.To))
	})
	slices.SortFunc(r.Top, func(a, b Busiest) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Type, b.Type), strings.Compare(a.ID, b.ID))
	})
	r.Edges, r.Top = r.Edges[:min(len(r.Edges), mostEdges)], r.Top[:min(len(r.Top), mostTop)]
	return r
}

// span is two surveys of one node; was is nil where there is none to compare with.
type span struct {
	node    string
	is, was *peer.Survey
}

// per is a count's rate. Whoever was not counted before began at nought.
func (s *span) per(is, was uint64) float64 {
	if s.was == nil || is < was {
		return 0
	}
	return float64(is-was) / (s.is.Age - s.was.Age).Seconds()
}

func (s *span) measure(r *Rates, edges map[[2]string]float64) {
	n := NodeRates{Address: s.node, Objects: s.is.Objects}
	types, was := map[string]peer.TypeSurvey{}, peer.Survey{}
	if s.was != nil {
		was = *s.was
	}
	for _, t := range was.Types {
		types[t.Type] = t
	}
	calls := map[time.Duration]uint64{}
	for _, t := range s.is.Types {
		before := types[t.Type]
		row := TypeRates{Type: t.Type, Node: s.node, Objects: t.Objects, Calls: round(s.per(t.Calls, before.Calls)), Errors: round(s.per(t.Errors, before.Errors))}
		n.Calls, n.Errors, n.Queued = n.Calls+row.Calls, n.Errors+row.Errors, n.Queued+t.Queued
		if row.Objects > 0 || row.Calls > 0 {
			r.Types = append(r.Types, row)
		}
		if s.was != nil {
			addUp(calls, t.Latency, 1)
			addUp(calls, before.Latency, ^uint64(0))
		}
	}
	n.Calls, n.Errors = round(n.Calls), round(n.Errors)
	n.Commits = round(s.per(s.is.Commits, was.Commits))
	n.P50, n.P99 = percentile(calls, 50), percentile(calls, 99)
	r.Nodes = append(r.Nodes, n)
	s.measureEdges(&was, edges)
	s.measureTop(&was, r)
}

func (s *span) measureEdges(was *peer.Survey, edges map[[2]string]float64) {
	before := map[[2]string]uint64{}
	for _, e := range was.Edges {
		before[[2]string{e.From, e.To}] = e.Calls
	}
	for _, e := range s.is.Edges {
		key := [2]string{e.From, e.To}
		if rate := s.per(e.Calls, before[key]); rate > 0 {
			edges[key] += rate
		}
	}
}

// measureTop counts of an object that was not among the busiest only what it surely had.
func (s *span) measureTop(was *peer.Survey, r *Rates) {
	before := map[object.Ref]peer.ObjectSurvey{}
	for _, o := range was.Top {
		before[o.Ref] = o
	}
	for _, o := range s.is.Top {
		b, from := before[o.Ref], o.Excess
		if b.Calls > 0 && b.Excess == o.Excess { // it was there all the time
			from = b.Calls
		}
		if rate := round(s.per(o.Calls, from)); rate > 0 {
			r.Top = append(r.Top, Busiest{Type: o.Ref.Type, ID: o.Ref.ID, Node: s.node, Calls: rate})
		}
	}
}

// measureGates puts together what gates have reported to whichever node.
func (m *Meter) measureGates(answers []Answer, members []string) []GateRates {
	newest := map[string]peer.GateSurvey{}
	for _, a := range answers {
		if a.Err != nil {
			continue
		}
		for _, g := range a.Survey.Gates {
			if known, ok := newest[g.Address]; !ok || g.Ago < known.Ago {
				newest[g.Address] = g
			}
		}
	}
	marks, list := map[string]gateMark{}, []GateRates{}
	for address, g := range newest {
		mark := m.gates[address].next(g)
		marks[address] = mark
		list = append(list, mark.rates)
	}
	for _, address := range members {
		if _, ok := newest[address]; !ok {
			list = append(list, GateRates{Address: address, Silent: "it has reported to no node that answers"})
		}
	}
	m.gates = marks
	slices.SortFunc(list, func(a, b GateRates) int { return strings.Compare(a.Address, b.Address) })
	return list
}

// next is the mark of a later report, or of the same.
func (m gateMark) next(g peer.GateSurvey) gateMark {
	rates := GateRates{Address: g.Address, Clients: g.Clients}
	took := (g.Age - m.Age).Seconds()
	switch {
	case g.Ago > gateQuiet:
		rates.Silent = "it has not reported for " + g.Ago.Round(time.Second).String()
	case g.Since != m.Since || took < 0 || g.Calls < m.Calls || g.Pushes < m.Pushes:
	case took == 0:
		return gateMark{g, m.rates}
	default:
		rates.Calls, rates.Pushes = round(float64(g.Calls-m.Calls)/took), round(float64(g.Pushes-m.Pushes)/took)
	}
	return gateMark{g, rates}
}

// addUp adds buckets, times of them.
func addUp(to map[time.Duration]uint64, buckets []peer.Bucket, times uint64) {
	for _, b := range buckets {
		to[b.UpTo] += b.Calls * times // wraps, and back
	}
}

// percentile is what p of 100 calls do not exceed, in microseconds.
func percentile(calls map[time.Duration]uint64, p uint64) int64 {
	var all uint64
	lengths := make([]time.Duration, 0, len(calls))
	for d, n := range calls {
		all += n
		lengths = append(lengths, d)
	}
	slices.Sort(lengths)
	longer := all - (all*p+99)/100
	for i := len(lengths) - 1; i >= 0; i-- {
		if n := calls[lengths[i]]; n <= longer {
			longer -= n
			continue
		}
		return (lengths[i] + time.Microsecond - 1).Microseconds()
	}
	return 0
}

// round keeps what a person can use.
func round(rate float64) float64 { return math.Round(rate*100) / 100 }
