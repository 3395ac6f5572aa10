package cluster

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

// surveyed is the steps of a walk that looks at every shard.
func surveyed(v *consensusmanager.View, self consensusmanager.Self, held []slot, limits limits) ([]Step, int) {
	w := newSurvey(len(held))
	return w.steps(v, self, held, limits)
}

// A survey that remembers finds what one that looks at everything finds: whatever
// becomes of records, members and limits between two walks, and of the slots on which
// something was to be done.
func TestSurveyForgetsNothing(t *testing.T) {
	const shards = 70 // more than a word of bits
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		store := memkv.NewStore()
		kv := store.Connect()
		write := func(key, value string) {
			if _, err := kv.Commit(t.Context(), put("/goverse/"+key, value)); err != nil {
				t.Fatal(err)
			}
		}
		write("meta", fmt.Sprintf(`{"cluster":"c","boot":"b","store":"none","shards":%d}`, shards))
		self := consensusmanager.Self{Address: "a", Registration: "a1"}
		w, held := newSurvey(shards), make([]slot, shards)
		epoch := 1
		var before *consensusmanager.View
		for range 40 {
			for range r.IntN(4) {
				switch who := string(rune('a' + r.IntN(3))); r.IntN(6) {
				case 0:
					write("nodes/"+who, fmt.Sprintf(`{"reg":%q,"state":%q}`, who+"1", []string{"ready", "draining"}[r.IntN(2)]))
					write("reg/"+who+"1", []string{who, "nobody"}[r.IntN(2)])
				default:
					epoch += r.IntN(2)
					holder := []string{"", "a", "a", "b"}[r.IntN(4)]
					reg := ""
					if holder != "" {
						reg = holder + fmt.Sprint(1+r.IntN(5)/4)
					}
					for range 1 + r.IntN(20) {
						write(fmt.Sprintf("shards/%04d", r.IntN(shards)), record(epoch, holder, reg, who))
					}
				}
			}
			v := read(t, kv, before)
			before = v
			l := limits{still: r.IntN(4) == 0, frozen: r.IntN(4) == 0}
			want, absent := surveyed(v, self, held, l)
			got, missing := w.steps(v, self, held, l)
			if !reflect.DeepEqual(got, want) || missing != absent {
				t.Fatalf("seed %d: %d steps, %d missing, of a walk that looks at everything %d and %d\n%v\n%v", seed, len(got), missing, len(want), absent, got, want)
			}
			act(r, w, held, got, v)
		}
		kv.Close()
		store.Close()
	}
}

// read is the cluster as it stands; records that did not change are those of before.
func read(t *testing.T, kv *memkv.Conn, before *consensusmanager.View) *consensusmanager.View {
	t.Helper()
	v, err := consensusmanager.Read(t.Context(), kv, "/goverse")
	if err != nil {
		t.Fatal(err)
	}
	if before == nil {
		return v
	}
	var next []*sharding.Shard
	for id := range v.Table.Changed(before.Table) {
		if s := v.Table.Shard(id); string(s.Raw()) != string(before.Table.Shard(id).Raw()) {
			next = append(next, s)
		}
	}
	v.Table = before.Table.With(next...)
	return v
}

// act does some of what is to be done, as far as a reconciler goes in one walk, and lets
// some of what is under way end.
func act(r *rand.Rand, w survey, held []slot, list []Step, v *consensusmanager.View) {
	busy := map[sharding.ID]bool{}
	for _, s := range list {
		h := &held[s.Shard.ID]
		busy[s.Shard.ID] = true
		switch s.Kind {
		case StepDrop:
			*h = slot{}
			w.touch(s.Shard.ID)
		case StepOpen:
			if r.IntN(3) > 0 {
				h.phase = []phase{busyPhase, open}[r.IntN(2)]
				if h.record = nil; h.phase == open {
					h.record = s.Shard
				}
			}
		case StepClaim:
			if r.IntN(3) > 0 {
				h.phase = busyPhase
			}
		case StepMove:
			if r.IntN(3) > 0 {
				h.phase, h.leaving = moving, &departure{id: "h", record: h.record}
			}
		}
	}
	for id := range held {
		h := &held[id]
		switch {
		case busy[sharding.ID(id)] || r.IntN(3) > 0:
		case h.phase == busyPhase:
			*h = slot{after: v.Revision + int64(r.IntN(3))}
		case h.phase == moving:
			h.phase, h.leaving = open, nil
		case h.phase == open && r.IntN(8) == 0: // the host has shut it
			*h = slot{}
			w.touch(sharding.ID(id))
		}
	}
}

const busyPhase = busy
