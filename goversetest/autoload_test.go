package goversetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/xiaonanln/goverse/object"
)

// births counts how often each Beacon came to life, in all nodes of this process.
var births struct {
	mu  sync.Mutex
	how map[string]int
}

func born(id string) int {
	births.mu.Lock()
	defer births.mu.Unlock()
	return births.how[id]
}

// Beacon is never called.
type Beacon struct{ object.BaseObject }

// OnCreated implements object.Object.
func (b *Beacon) OnCreated() {
	births.mu.Lock()
	defer births.mu.Unlock()
	births.how[b.Id()]++
}

// Ping is there because a type has a method.
func (b *Beacon) Ping(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// Objects that the cluster has from its beginning come again behind each death and each
// move, though nobody calls them.
func TestAutoLoad(t *testing.T) {
	births.how = map[string]int{}
	c := Cluster{Nodes: 3, Types: []Type{Of((*Beacon)(nil))}, AutoLoad: []object.AutoLoad{
		{Type: "Beacon", ID: "lone"}, {Type: "Beacon", ID: "each", PerShard: true}, {Type: "Beacon", ID: "here", PerNode: true},
	}}
	Sim(t, c, func(w *World) {
		w.Settle()
		all := []string{"lone"}
		for shard := range numShards {
			all = append(all, fmt.Sprintf("shard#%d/each", shard))
		}
		for _, node := range w.Nodes() {
			all = append(all, w.Address(node)+"/here")
		}
		w.Advance(time.Second)
		if len(births.how) != len(all) {
			t.Errorf("%d objects came to life, want %d", len(births.how), len(all))
		}
		for _, id := range all {
			if born(id) == 0 {
				t.Errorf("%s did not come to life", id)
			}
		}
		for round := range 3 {
			victim := w.Holder("Beacon/lone")
			lost, before := []string{w.Address(victim) + "/here"}, map[string]int{}
			for _, id := range all[:1+numShards] {
				if w.Holder("Beacon/"+id) == victim {
					lost = append(lost, id)
				}
			}
			for _, id := range lost {
				before[id] = born(id)
			}
			w.Kill(victim)
			w.Advance(time.Second)
			for _, id := range lost {
				if born(id) == before[id] {
					t.Errorf("death %d: %s did not come again", round, id)
				}
			}
		}
		from := w.Holder("Beacon/lone")
		for _, to := range w.Nodes() {
			if to == from {
				continue
			}
			before := born("lone")
			w.MoveTo("Beacon/lone", to)
			w.Advance(time.Second)
			if born("lone") == before {
				t.Errorf("moved from %s to %s it did not come again", from, to)
			}
			from = to
		}
	})
}
