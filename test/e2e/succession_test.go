//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
)

// Who leads and who holds, as etcd's own clock of changes tells it: a leader that
// leaves is followed by the next, and what a dead node held is taken over once its
// lease has ended. The times are said, not judged: docs/performance.md has the goals.
func TestSuccession(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.begin(3, 0)
	sorted := func() []string { return slices.Sorted(maps.Keys(f.nodes)) }

	t.Run("a leader leaves", func(t *testing.T) {
		leader := sorted()[0]
		d := f.keepDiary()
		f.stop(f.nodes, leader)
		f.settle()
		d.close()
		gap, next := d.interregnum()
		if next != sorted()[0] {
			t.Errorf("%s leads after %s; want %s", next, leader, sorted()[0])
		}
		t.Logf("no leader for %v", gap.Round(time.Microsecond))
		f.node(leader)
		f.settle()
	})
	t.Run("a leader is killed", func(t *testing.T) {
		leader := sorted()[0]
		held := f.keysHeldBy(leader)
		d := f.keepDiary()
		killed := time.Now()
		f.kill(leader)
		f.settle()
		d.close()
		gap, next := d.interregnum()
		if next != sorted()[0] {
			t.Errorf("%s leads after %s; want %s", next, leader, sorted()[0])
		}
		ended, inherited, left := d.inheritance(leader, held)
		if len(held) == 0 || left > 0 {
			t.Errorf("of %d shards that %s held %d have no other holder", len(held), leader, left)
		}
		t.Logf("its lease ended %v after the kill; another led %v later, and its %d shards had other holders %v later",
			ended.Sub(killed).Round(time.Millisecond), gap.Round(time.Millisecond), len(held), inherited.Sub(ended).Round(time.Millisecond))
	})
}

// keysHeldBy are the keys of the shards that a node holds.
func (f *fleet) keysHeldBy(node string) map[string]bool {
	held := map[string]bool{}
	for id, s := range f.view().Table.All() {
		if s.Current == node {
			held[fmt.Sprintf("shards/%04d", id)] = true
		}
	}
	return held
}

// diary is what changed in etcd, with the moments at which it was seen.
type diary struct {
	stop  func()
	ended sync.WaitGroup
	lines []diaryLine
}

type diaryLine struct {
	at      time.Time
	key     string // below the cluster's prefix
	deleted bool
	value   []byte
}

// keepDiary begins with the next change.
func (f *fleet) keepDiary() *diary {
	f.t.Helper()
	prefix := consensusmanager.DefaultPrefix + "/"
	page, err := f.kv.Range(f.t.Context(), prefix)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	d := &diary{stop: cancel}
	changes := f.kv.Watch(ctx, prefix, page.Revision+1)
	d.ended.Go(func() {
		for batch := range changes {
			now := time.Now()
			for _, e := range batch.Events {
				d.lines = append(d.lines, diaryLine{now, strings.TrimPrefix(e.Item.Key, prefix), e.Deleted, e.Item.Value})
			}
		}
	})
	return d
}

func (d *diary) close() {
	d.stop()
	d.ended.Wait()
}

// interregnum is for how long nobody led, and who leads since.
func (d *diary) interregnum() (gap time.Duration, next string) {
	var left time.Time
	for _, line := range d.lines {
		switch {
		case line.key != "leader":
		case line.deleted:
			left = line.at
		default:
			var leader struct{ Node string }
			if json.Unmarshal(line.value, &leader) == nil && !left.IsZero() {
				gap, next = line.at.Sub(left), leader.Node
			}
		}
	}
	return gap, next
}

// inheritance is when the node's lease ended, when the last of what it had held got
// another holder, and how many of these shards have none.
func (d *diary) inheritance(node string, held map[string]bool) (ended, inherited time.Time, left int) {
	waiting := maps.Clone(held)
	for _, line := range d.lines {
		var shard struct{ C string }
		switch {
		case line.deleted && line.key == "nodes/"+node:
			ended = line.at
		case !line.deleted && waiting[line.key] && json.Unmarshal(line.value, &shard) == nil && shard.C != "" && shard.C != node:
			delete(waiting, line.key)
			inherited = line.at
		}
	}
	return ended, inherited, len(waiting)
}
