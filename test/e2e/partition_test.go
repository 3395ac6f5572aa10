//go:build unix

package e2e

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// found is after how much time a way that has gone silent counts as broken, and
// another has been found.
const found = 8 * time.Second

// Every process has a network of its own, and single ways between them are cut, in one
// direction and in both, for once and again and again. While all nodes have etcd, no
// shard has another holder, nothing is lost even of what is only in memory, and calls
// find their way by a third node.
func TestPartitions(t *testing.T) {
	inWorld(t, true, func(w *world) {
		chance := luck(t)
		f := newFleetWith(t, w)
		gates := f.begin(3, 2)
		ways := &load{name: "ways-", objects: 120, detours: 3}
		ways.begin(t, 60, gates[:1], gates[1:])
		f.have(ways, gates, 19*time.Second, f.cuts(gates, chance)...)
		lives := &load{name: "lives-", objects: 120, detours: 3}
		lives.begin(t, 60, gates[:1], gates[1:])
		f.have(lives, gates, 16*time.Second, f.losses(chance)...)
		f.judgeLives(ways, lives)
	})
}

// cuts are troubles of single ways: first those for which another way has to be found,
// then those that nobody feels.
func (f *fleet) cuts(gates []string, chance *rand.Rand) []trouble {
	nodes := shuffled(chance, slices.Sorted(maps.Keys(f.nodes)))
	gate := gates[chance.IntN(len(gates))]
	a, b := nodes[0], nodes[1]
	na, nb, g := f.hosts[a], f.hosts[b], f.hosts[gate]
	const cut = found + 2*time.Second

	atNodes := func(c path) bool { return c.node == a && c.next == b || c.node == b && c.next == a }
	atGate := func(c path) bool { return c.gate == gate && c.node == a }
	etcd := f.etcdHosts()
	return append(shuffled(chance, []trouble{
		{name: "a node cannot send to another", takes: cut, noticed: found, hurt: atNodes, do: func() { cutFor(cut, way{na, nb}) }},
		{name: "two nodes do not reach each other", takes: cut, noticed: found, hurt: atNodes, do: func() { cutFor(cut, way{na, nb}, way{nb, na}) }},
		{name: "a gate cannot send to a node", takes: cut, noticed: found, hurt: atGate, do: func() { cutFor(cut, way{g, na}) }},
		{name: "a node cannot send to a gate", takes: cut, noticed: found, hurt: atGate, do: func() { cutFor(cut, way{na, g}) }},
		{name: "a gate and a node do not reach each other", takes: cut, noticed: found, hurt: atGate, do: func() { cutFor(cut, way{na, g}, way{g, na}) }},
	}), shuffled(chance, []trouble{ // shorter than TCP bears silence
		{name: "the way between two nodes flaps", takes: 4 * time.Second, do: func() { flap(5, 250*time.Millisecond, 300*time.Millisecond, way{na, nb}, way{nb, na}) }},
		{name: "the way from a gate to a node flaps", takes: 4 * time.Second, do: func() { flap(5, 250*time.Millisecond, 300*time.Millisecond, way{g, na}) }},
		{name: "a node's way to etcd flaps", takes: 8 * time.Second, do: func() { flap(6, 500*time.Millisecond, 500*time.Millisecond, between(na, etcd...)...) }},
		{name: "a node does not reach etcd for two seconds", takes: 3 * time.Second, do: func() { cutFor(2*time.Second, between(na, etcd...)...) }},
		{name: "a node does not reach etcd's leader", takes: 7 * time.Second, do: func() { cutFor(6*time.Second, between(na, f.etcdLeader())...) }},
		{name: "etcd's leader does not reach its members", takes: 7 * time.Second, do: func() {
			leader := f.etcdLeader()
			cutFor(6*time.Second, between(leader, etcd...)...)
			leaderOf(f.t, f.members)
		}},
	})...)
}

// losses are troubles that may cost a node its shards, behind two that do not.
func (f *fleet) losses(chance *rand.Rand) []trouble {
	victim := shuffled(chance, slices.Sorted(maps.Keys(f.nodes)))[0]
	h := f.hosts[victim]
	etcd := f.etcdHosts()
	its := func(c path) bool { return c.node == victim || c.next == victim }
	// Who is stopped in the middle of a commit holds the lock of the SQLite file that all
	// share, and after five seconds the others have waited enough.
	stopped := func(c path) bool { return its(c) || c.durable }
	const tooLong = leaseTTL + 3*time.Second
	return append([]trouble{
		{name: "a pause of half a second", takes: time.Second, do: func() { f.pause(victim, 500*time.Millisecond) }},
		{name: "a pause of three seconds", takes: 3 * time.Second, hurt: its, do: func() { f.pause(victim, 3*time.Second) }},
	}, shuffled(chance, []trouble{
		{name: "a node reaches nobody", takes: 12 * time.Second, moves: true, hurt: its, do: func() {
			h.unplug()
			time.Sleep(tooLong) // the fault itself
			h.plug()
		}},
		{name: "a node cannot send to etcd", takes: 12 * time.Second, moves: true, hurt: its, do: func() { cutFor(tooLong, ways(h, etcd...)...) }},
		{name: "etcd cannot send to a node", takes: 12 * time.Second, moves: true, hurt: its, do: func() { cutFor(tooLong, waysBack(h, etcd...)...) }},
		{name: "a node and etcd do not reach each other", takes: 12 * time.Second, moves: true, hurt: its, do: func() { cutFor(tooLong, between(h, etcd...)...) }},
		{name: "kill -9", takes: 12 * time.Second, moves: true, hurt: its, do: func() { f.killAndAwait(victim) }},
		{name: "a pause of a lease and a half", takes: 12 * time.Second, moves: true, hurt: stopped, do: func() { f.pause(victim, leaseTTL+leaseTTL/2) }},
		{name: "a pause of four leases", takes: 26 * time.Second, only: true, moves: true, hurt: stopped, do: func() { f.pause(victim, 4*leaseTTL) }},
	})...)
}

// killAndAwait kills a node, starts its successor and waits until that one is in the
// cluster: the lease of the dead has to end before.
func (f *fleet) killAndAwait(node string) {
	f.t.Helper()
	registration := func() string {
		if m, ok := f.view().Member(node); ok {
			return m.Registration
		}
		return ""
	}
	was := registration()
	f.kill(node)
	f.node(node)
	for began := time.Now(); registration() == was || registration() == ""; time.Sleep(50 * time.Millisecond) { // between two looks
		if time.Since(began) > leaseTTL+convergence {
			f.t.Fatalf("the successor of %s is not there", node)
		}
	}
}

func (f *fleet) etcdHosts() []*host {
	var list []*host
	for _, m := range f.members {
		list = append(list, m.host)
	}
	return list
}

func (f *fleet) etcdLeader() *host { return leaderOf(f.t, f.members).host }

// way is from one host to another.
type way struct{ from, to *host }

// ways lead from a host to others, waysBack from them to it; between are both.
func ways(from *host, to ...*host) (list []way) {
	for _, h := range to {
		if h != from {
			list = append(list, way{from, h})
		}
	}
	return list
}

func waysBack(to *host, from ...*host) (list []way) {
	for _, w := range ways(to, from...) {
		list = append(list, way{w.to, w.from})
	}
	return list
}

func between(h *host, others ...*host) []way {
	return append(ways(h, others...), waysBack(h, others...)...)
}

// cutFor cuts ways for a while.
func cutFor(d time.Duration, ways ...way) {
	for _, w := range ways {
		w.from.cutTo(w.to)
	}
	time.Sleep(d) // the fault itself
	for _, w := range ways {
		w.from.healTo(w.to)
	}
}

// flap cuts ways again and again.
func flap(times int, cut, healed time.Duration, ways ...way) {
	for range times {
		cutFor(cut, ways...)
		time.Sleep(healed) // a part of the fault
	}
}
