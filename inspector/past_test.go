package inspector

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// The map of every moment that is kept is as it was shown then.
func TestThePastIsAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 1))
		f := NewFeed("life")
		if f.ShardsAt(0) != nil {
			t.Error("there is a past of nothing")
		}
		scene := &Scene{Shards: make([]Shard, 16)}
		want := map[int64][]string{}
		began := time.Now().UnixMilli()
		for range 200 {
			f.Show(scene)
			now := time.Now().UnixMilli()
			want[now] = mapAt(t, f, now, now)
			time.Sleep(time.Duration(1+r.IntN(900)) * time.Millisecond)
			scene = stir(r, scene)
		}
		for at, rows := range want {
			if got := mapAt(t, f, at, at); !reflect.DeepEqual(got, rows) {
				t.Fatalf("at %d it was\n%v, and is told as\n%v", at, rows, got)
			}
		}
		mapAt(t, f, began-5000, began)
	})
}

// mapAt is the map of a moment, with names; told is the moment that the answer says.
func mapAt(t *testing.T, f *Feed, at, told int64) (rows []string) {
	t.Helper()
	var m pastFrame
	if err := json.Unmarshal(f.ShardsAt(at), &m); err != nil {
		t.Fatal(err)
	}
	if m.At != told {
		t.Fatalf("asked for %d, told of %d and not %d", at, m.At, told)
	}
	for _, row := range m.Shards {
		names := [2]string{}
		for i := range names {
			if n := int(row[i+1].(float64)); n >= 0 {
				names[i] = m.Names[n]
			}
		}
		rows = append(rows, fmt.Sprint(row[0], names, row[3]))
	}
	return rows
}

// What is kept is bounded, and what was forgotten is not told wrongly.
func TestThePastIsBounded(t *testing.T) {
	var p past
	p.begin(10)
	for i := range 3 * keptMoves {
		p.add(int64(100+i), 0, Shard{Epoch: uint64(i)})
	}
	if len(p.list) > keptMoves || len(p.list) < keptMoves/2 {
		t.Fatalf("%d are kept", len(p.list))
	}
	shards := []Shard{{Epoch: 3 * keptMoves}}
	p.back(shards, p.from)
	if got := int64(shards[0].Epoch); got != p.from-100+1 { // the change at from had been made
		t.Errorf("at %d it is told as of epoch %d", p.from, got)
	}
}
