package bench

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/bench/durable"
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
			host, err := durable.Start(b.Context(), store)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() {
				if err := host.Close(); err != nil {
					b.Error(err)
				}
			})
			desk := durable.NewDesk(store)
			saves := func(lanes, size int) func(time.Duration) (float64, error) {
				return func(d time.Duration) (float64, error) { return desk.Saves(b.Context(), d, lanes, size) }
			}
			calls := func(l durable.Load) func(time.Duration) (float64, error) {
				return func(d time.Duration) (float64, error) { return host.Calls(b.Context(), d, l) }
			}
			ways := []struct {
				name string
				rate func(time.Duration) (float64, error)
			}{
				{oneRow, saves(1, 1)},
				{distinct, calls(durable.Load{Callers: 256, ID: strconv.Itoa})},
				{batches, saves(store.Lanes(), 256/store.Lanes())},
				{hot, calls(durable.Load{Callers: 64, ID: func(int) string { return "hot" }})},
				{fullest, saves(store.Lanes(), 256)},
				{withIDs, calls(durable.Load{Callers: 256, ID: strconv.Itoa, Once: true})},
				{alone, calls(durable.Load{Callers: 1, ID: strconv.Itoa})},
			}
			for _, w := range ways {
				if _, err := w.rate(100 * time.Millisecond); err != nil { // everything is stored once, and warm
					b.Fatal(w.name, err)
				}
			}
			rates := map[string][]float64{}
			for b.Loop() {
				for range 7 {
					now := map[string]float64{}
					for _, w := range ways {
						rate, err := w.rate(300 * time.Millisecond)
						if err != nil {
							b.Fatal(w.name, err)
						}
						now[w.name] = rate
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
