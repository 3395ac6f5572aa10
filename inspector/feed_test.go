package inspector

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// viewer is a viewer's memory, as the page keeps it.
type viewer struct {
	place   Place
	nodes   []string
	names   []string
	shards  map[int]string // as "epoch holder target state"
	changes uint64         // the number of the last
	began   int            // snapshots
}

func (v *viewer) read(t *testing.T, f *Feed) {
	t.Helper()
	frames, next, _ := f.After(v.place)
	for _, frame := range frames {
		v.take(t, frame)
	}
	if v.place != next {
		t.Fatalf("the frames lead to %v, not %v", v.place, next)
	}
}

func (v *viewer) take(t *testing.T, frame []byte) {
	t.Helper()
	var m struct {
		Op, Life string
		Number   uint64
		Scene    *Scene
		Names    []string
		Shards   [][]any
		Changes  []Change
	}
	if err := json.Unmarshal(frame, &m); err != nil {
		t.Fatal(err)
	}
	if m.Op == "snapshot" {
		*v = viewer{place: Place{m.Life, m.Number}, shards: map[int]string{}, began: v.began + 1}
		for i, row := range m.Shards {
			m.Shards[i] = append([]any{float64(i)}, row...)
		}
	} else if m.Number != v.place.Number+1 {
		t.Fatalf("delta %d after %d", m.Number, v.place.Number)
	}
	v.place.Number = m.Number
	v.names = append(v.names, m.Names...)
	for _, row := range m.Shards {
		name := func(n any) string {
			if n.(float64) < 0 {
				return ""
			}
			return v.names[int(n.(float64))]
		}
		v.shards[int(row[0].(float64))] = fmt.Sprint(row[1], name(row[2]), name(row[3]), row[4])
	}
	for _, c := range m.Changes {
		if c.Number <= v.changes {
			t.Fatalf("change %d after %d", c.Number, v.changes)
		}
		v.changes = c.Number
	}
	if m.Scene != nil {
		v.nodes = nil
		for _, n := range m.Scene.Nodes {
			v.nodes = append(v.nodes, n.Address)
		}
	}
}

// Whoever looks when, and however long they were away, they see what is.
func TestViewersAgree(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := NewFeed("life")
		viewers := []*viewer{{}, {}, {}}
		scene := &Scene{Shards: make([]Shard, 16)}
		for range 100 {
			scene = stir(r, scene)
			switch r.IntN(12) {
			case 0:
				f.Stale(fmt.Sprint("why ", r.IntN(3)))
			case 1:
				f.Tell(Change{Kind: OfAction, Text: "x"})
			default:
				f.Show(scene)
			}
			for _, v := range viewers {
				if r.IntN(4) == 0 {
					v.read(t, f)
				}
			}
		}
		f.Show(scene)
		var fresh viewer
		fresh.read(t, f)
		for i, v := range viewers {
			v.read(t, f)
			if !reflect.DeepEqual(v.shards, fresh.shards) || !reflect.DeepEqual(v.nodes, fresh.nodes) {
				t.Fatalf("seed %d: viewer %d sees\n%v %v, who comes now\n%v %v", seed, i, v.nodes, v.shards, fresh.nodes, fresh.shards)
			}
			if v.began > 2 { // before the first scene, and with it
				t.Errorf("seed %d: a viewer who was never away for long began %d times", seed, v.began)
			}
		}
	}
}

// stir is a later scene.
func stir(r *rand.Rand, was *Scene) *Scene {
	s := *was
	s.Revision++
	s.Shards = append([]Shard(nil), was.Shards...)
	for range r.IntN(4) {
		i := r.IntN(len(s.Shards))
		node := fmt.Sprintf("n%d:1", r.IntN(20))
		s.Shards[i] = Shard{Epoch: s.Shards[i].Epoch + 1, Current: node, Target: node, State: sharding.Held, registration: node}
	}
	s.Nodes = nil
	for i := range r.IntN(5) {
		s.Nodes = append(s.Nodes, Node{NodeRow: diagnosis.NodeRow{Address: fmt.Sprintf("n%d:1", i), Registration: "r", State: "ready"}})
	}
	return &s
}

// Who was away for too long, or comes from another life, begins anew; memory is bounded.
func TestAway(t *testing.T) {
	f := NewFeed("life")
	f.Show(&Scene{Shards: make([]Shard, 1)})
	var v viewer
	v.read(t, f)
	for range keptFrames {
		f.Tell(Change{Text: "x"})
	}
	if v.read(t, f); v.began != 1 {
		t.Errorf("it began %d times", v.began)
	}
	for range keptFrames + 1 {
		f.Tell(Change{Text: "x"})
	}
	if v.read(t, f); v.began != 2 {
		t.Errorf("it began %d times", v.began)
	}
	for _, p := range []Place{{"other", 3}, {"life", 1 << 60}, {}, ParsePlace("life.x"), ParsePlace("nonsense")} {
		frames, _, _ := f.After(p)
		if len(frames) != 1 || string(frames[0][:17]) != `{"op":"snapshot",` {
			t.Errorf("%v: %d frames", p, len(frames))
		}
	}
	if len(f.changes) != keptChanges || len(f.frames) != keptFrames {
		t.Errorf("%d changes and %d frames are kept", len(f.changes), len(f.frames))
	}
	if p := ParsePlace("life.17"); p != (Place{"life", 17}) {
		t.Error(p)
	}
}
