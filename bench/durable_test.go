package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/node"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/test/pg"
	"github.com/xiaonanln/goverse/util/postgres"
	"github.com/xiaonanln/goverse/util/sqlite"
)

func TestMain(m *testing.M) {
	code := m.Run()
	pg.Stop()
	os.Exit(code)
}

func openSQLite(b *testing.B) object.FencedProvider {
	db, err := sqlite.Open(b.Context(), sqlite.Config{Path: filepath.Join(b.TempDir(), "bench.db")})
	if err != nil {
		b.Fatal(err)
	}
	initialize(b, db)
	return sqlite.NewSQLitePersistenceProvider(db)
}

func openPostgres(b *testing.B) object.FencedProvider {
	db, err := postgres.Open(b.Context(), postgres.Config{URL: pg.Database(b)}) // or it is skipped, and says so
	if err != nil {
		b.Fatal(err)
	}
	initialize(b, db)
	return postgres.NewPostgresPersistenceProvider(db)
}

func initialize(b *testing.B, db interface {
	InitSchema(context.Context) error
	Close() error
}) {
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := db.InitSchema(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// What BenchmarkDurable measures in each round, one after the other.
const (
	oneRow   = "store-one-row/s"  // one object after the other, on one connection
	batches  = "store-batched/s"  // 256 objects under way, a batch in each of the store's lanes
	fullest  = "store-256-rows/s" // batches of 256, in each of its lanes
	distinct = "distinct-calls/s" // 256 callers, each of an object of its own
	hot      = "hot-calls/s"      // 64 callers of one object
	withIDs  = "once-calls/s"     // 256 callers, each of an object of its own, under ids
	alone    = "alone-calls/s"    // one caller
)

// BenchmarkDurable holds calls of durable objects against what the store itself commits:
// the same rows through the same connections in the same minute. It takes rounds of all
// of it and reports medians, and medians of each round's ratios: those are the goals,
// since a disk that others use is twice as fast a minute later.
func BenchmarkDurable(b *testing.B) {
	for name, open := range map[string]func(*testing.B) object.FencedProvider{"SQLite": openSQLite, "PostgreSQL": openPostgres} {
		b.Run(name, func(b *testing.B) {
			store := open(b)
			n := startNode(b, store)
			desk := &desk{store: store, base: map[object.Ref]uint64{}}
			ways := []struct {
				name string
				rate func(time.Duration) float64
			}{
				{oneRow, func(d time.Duration) float64 { return desk.rate(b, d, 1, 1) }},
				{distinct, func(d time.Duration) float64 { return callRate(b, n, d, 256, strconv.Itoa, false) }},
				{batches, func(d time.Duration) float64 { return desk.rate(b, d, store.Lanes(), 256/store.Lanes()) }},
				{hot, func(d time.Duration) float64 { return callRate(b, n, d, 64, func(int) string { return "hot" }, false) }},
				{fullest, func(d time.Duration) float64 { return desk.rate(b, d, store.Lanes(), 256) }},
				{withIDs, func(d time.Duration) float64 { return callRate(b, n, d, 256, strconv.Itoa, true) }},
				{alone, func(d time.Duration) float64 { return callRate(b, n, d, 1, strconv.Itoa, false) }},
			}
			for _, w := range ways {
				w.rate(100 * time.Millisecond) // everything is stored once, and warm
			}
			rates := map[string][]float64{}
			for b.Loop() {
				for range 7 {
					now := map[string]float64{}
					for _, w := range ways {
						now[w.name] = w.rate(300 * time.Millisecond)
						rates[w.name] = append(rates[w.name], now[w.name])
					}
					rates["distinct/batched-%"] = append(rates["distinct/batched-%"], 100*now[distinct]/now[batches])
					rates["distinct/256-rows-%"] = append(rates["distinct/256-rows-%"], 100*now[distinct]/now[fullest])
					rates["hot/one-row"] = append(rates["hot/one-row"], now[hot]/now[oneRow])
				}
			}
			b.ReportMetric(0, "ns/op")
			for name, list := range rates {
				slices.Sort(list)
				b.ReportMetric(list[len(list)/2], name)
			}
		})
	}
}

// callRate is how many calls in a second some callers make, each the next when it has the
// answer to the last.
func callRate(b *testing.B, n *node.Node, d time.Duration, callers int, id func(caller int) string, once bool) float64 {
	var count atomic.Int64
	var calling sync.WaitGroup
	began := time.Now()
	for i := range callers {
		calling.Go(func() {
			call := callOf("Tally", id(i), "Add")
			for time.Since(began) < d {
				if once {
					call.ID = object.NewCallID()
				}
				if _, err := n.Call(b.Context(), call); err != nil {
					b.Error(err)
					return
				}
				count.Add(1)
			}
		})
	}
	calling.Wait()
	return float64(count.Load()) / time.Since(began).Seconds()
}

// desk saves rows as a node would.
type desk struct {
	store object.FencedProvider

	mu   sync.Mutex // protects following field
	base map[object.Ref]uint64
}

// rate is how many objects in a second are committed in batches, several at a time. What
// is in one lane is never in another, as in a node.
func (d *desk) rate(b *testing.B, takes time.Duration, lanes, size int) float64 {
	var count atomic.Int64
	var saving sync.WaitGroup
	began := time.Now()
	for lane := range lanes {
		saving.Go(func() {
			saves := d.batch(lane, lanes, size)
			for n := uint64(1); time.Since(began) < takes; n++ {
				if err := d.commit(b.Context(), saves, n); err != nil {
					b.Error(err)
					return
				}
				count.Add(int64(size))
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, s := range saves {
				d.base[s.Ref] = s.Base
			}
		})
	}
	saving.Wait()
	return float64(count.Load()) / time.Since(began).Seconds()
}

// batch is objects of a lane, one of each in any call.
func (d *desk) batch(lane, lanes, size int) []object.Save {
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

func (d *desk) commit(ctx context.Context, saves []object.Save, n uint64) error {
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

// owner is who has stamped the fences: startNode's.
const owner = "bench:1#1"
