package durable

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/object"
)

// Desk saves rows as a node would that does nothing else. A Host on its store stamps the
// fences that it saves under.
type Desk struct {
	store object.FencedProvider

	mu   sync.Mutex // protects following field
	base map[object.Ref]uint64
}

// NewDesk is a desk whose rows nobody has saved yet.
func NewDesk(store object.FencedProvider) *Desk {
	return &Desk{store: store, base: map[object.Ref]uint64{}}
}

// Saves is how many rows a second are committed, for a while, in batches of size, in
// lanes batches at a time. What is in one lane is never in another, as in a node.
func (d *Desk) Saves(ctx context.Context, takes time.Duration, lanes, size int) (rate float64, err error) {
	var count atomic.Int64
	var saving sync.WaitGroup
	failed := make(chan error, lanes)
	began := time.Now()
	for lane := range lanes {
		saving.Go(func() {
			saves := d.batch(lane, lanes, size)
			defer d.keep(saves)
			n := uint64(1)
			for ok := true; ok; ok = time.Since(began) < takes { // one at least
				if err := d.commit(ctx, saves, n); err != nil {
					failed <- err
					return
				}
				n++
				count.Add(int64(size))
			}
		})
	}
	saving.Wait()
	select {
	case err = <-failed:
	default:
	}
	return float64(count.Load()) / time.Since(began).Seconds(), err
}

// batch is rows of a lane, each once.
func (d *Desk) batch(lane, lanes, size int) []object.Save {
	d.mu.Lock()
	defer d.mu.Unlock()
	saves := make([]object.Save, 0, size)
	for i := 0; len(saves) < size; i++ {
		ref := object.Ref{Type: "Row", ID: strconv.Itoa(i)}
		if shard := sharding.GetShardID(ref.ID, sharding.NumShards); shard%lanes == lane {
			saves = append(saves, object.Save{Ref: ref, Shard: shard, Epoch: 1, Base: d.base[ref]})
		}
	}
	return saves
}

// keep remembers the versions that were made.
func (d *Desk) keep(saves []object.Save) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range saves {
		d.base[s.Ref] = s.Base
	}
}

func (d *Desk) commit(ctx context.Context, saves []object.Save, n uint64) error {
	for i := range saves {
		s := &saves[i]
		s.Data = fmt.Appendf(nil, `{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"%d"}`, n)
		binary.BigEndian.PutUint64(s.SaveID[:], s.Base+1)
		binary.BigEndian.PutUint64(s.SaveID[8:], uint64(i))
	}
	verdicts, err := d.store.Commit(ctx, owner, saves)
	if err != nil {
		return err
	}
	for i, v := range verdicts {
		if v.Kind != object.Committed {
			return fmt.Errorf("save %d: %+v", i, v)
		}
		saves[i].Base = v.Version
	}
	return nil
}
