package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// leaseTTL is how long etcd keeps a member after its last sign of life.
const leaseTTL = 5 * time.Second

// fault is something that goes wrong, for a while: do returns when it is over.
type fault struct {
	name string
	do   func(ctx context.Context) error
}

// nemesis lets faults happen: those of the nodes one after another, and beside them those
// of the gates and of the clients' connections.
type nemesis struct {
	fleet   *fleet
	readers []*reader
	chance  *rand.Rand
	say     func(format string, args ...any)

	mu   sync.Mutex // protects following field
	done map[string]int
}

// run lets faults happen until ctx ends, and returns when the last is over. Each kind
// happens once before one happens again.
func (n *nemesis) run(ctx context.Context) error {
	n.done = map[string]int{}
	seeds := [2]uint64{n.chance.Uint64(), n.chance.Uint64()}
	kinds := [2]func(*rand.Rand) []fault{n.ofNodes, n.ofGates}
	var failures [2]error
	var tracks sync.WaitGroup
	for i, kind := range kinds {
		tracks.Go(func() { failures[i] = n.track(ctx, rand.New(rand.NewPCG(seeds[i], 1)), kind) })
	}
	tracks.Wait()
	return errors.Join(failures[:]...)
}

func (n *nemesis) track(ctx context.Context, chance *rand.Rand, kind func(*rand.Rand) []fault) error {
	for {
		for _, f := range kind(chance) {
			rest(ctx, 500*time.Millisecond+time.Duration(chance.Int64N(int64(time.Second))))
			if ctx.Err() != nil {
				return nil
			}
			n.say("%s", f.name)
			if err := f.do(ctx); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			n.mu.Lock()
			n.done[f.name]++
			n.mu.Unlock()
		}
	}
}

// ofNodes are the faults of nodes, each of one that chance picks.
func (n *nemesis) ofNodes(chance *rand.Rand) []fault {
	pick := func() *member { return n.fleet.nodes[chance.IntN(len(n.fleet.nodes))] }
	return shuffled(chance, []fault{
		{"a node is killed", restarted(pick(), (*member).killed)},
		{"a node leaves", restarted(pick(), (*member).drain)},
		{"a node is stopped for a second", paused(pick(), time.Second)},
		{"a node is stopped for longer than its lease", paused(pick(), leaseTTL+2*time.Second)},
		{"nobody reaches a node", func(m *member) func(context.Context) error { return severed(3*time.Second, m.inward) }(pick())},
		{"a node reaches nobody, and nobody it, for longer than its lease", func(m *member) func(context.Context) error {
			return severed(leaseTTL+2*time.Second, m.inward, m.etcd)
		}(pick())},
	})
}

// ofGates are the faults of gates and of clients' connections.
func (n *nemesis) ofGates(chance *rand.Rand) []fault {
	pick := func() *member { return n.fleet.gates[chance.IntN(len(n.fleet.gates))] }
	return shuffled(chance, []fault{
		{"a gate is killed", restarted(pick(), (*member).killed)},
		{"a gate leaves", restarted(pick(), (*member).drain)},
		{"a gate is stopped for two seconds", paused(pick(), 2*time.Second)},
		{"a gate does not reach etcd for longer than its lease", severed(leaseTTL+2*time.Second, pick().etcd)},
		{"a tenth of the connections break", func(context.Context) error { n.breakConnections(chance); return nil }},
	})
}

func (n *nemesis) breakConnections(chance *rand.Rand) {
	for _, i := range chance.Perm(len(n.readers))[:(len(n.readers)+9)/10] {
		n.readers[i].hangUp()
	}
}

// killed kills a process.
func (m *member) killed() error {
	m.kill()
	return nil
}

// restarted ends a process, and starts its successor at its address.
func restarted(m *member, end func(*member) error) func(context.Context) error {
	return func(context.Context) error {
		if err := end(m); err != nil {
			return err
		}
		starting, cancel := context.WithTimeout(context.Background(), patience) // also when the run is to end
		defer cancel()
		return m.start(starting)
	}
}

func paused(m *member, d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error { return m.pause(ctx, d) }
}

// severed cuts roads for a while.
func severed(d time.Duration, roads ...*road) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, r := range roads {
			r.sever()
		}
		rest(ctx, d)
		for _, r := range roads {
			r.heal()
		}
		return nil
	}
}

func shuffled[T any](chance *rand.Rand, list []T) []T {
	chance.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
