package bench

import (
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/util/sqlite"
)

const owner = "bench:1#1"

func openStore(b *testing.B) *sqlite.Provider {
	db, err := sqlite.Open(b.Context(), sqlite.Config{Path: filepath.Join(b.TempDir(), "bench.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := db.InitSchema(b.Context()); err != nil {
		b.Fatal(err)
	}
	return sqlite.NewSQLitePersistenceProvider(db)
}

// BenchmarkSQLiteCommit is the reference: what the store itself commits, as fast as
// it takes it, in batches of one and of 256.
func BenchmarkSQLiteCommit(b *testing.B) {
	for _, size := range []int{1, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			store := openStore(b)
			saves := make([]object.Save, size)
			fences := make([]object.Fence, size)
			for i := range saves {
				ref := object.Ref{Type: "Tally", ID: strconv.Itoa(i)}
				saves[i] = object.Save{Ref: ref, Shard: sharding.GetShardID(ref.ID, sharding.NumShards), Epoch: 1}
				fences[i] = object.Fence{Shard: saves[i].Shard, Epoch: 1}
			}
			if _, err := store.Stamp(b.Context(), owner, fences); err != nil {
				b.Fatal(err)
			}
			count := 0
			for b.Loop() {
				for i := range saves {
					count++
					saves[i].Data = fmt.Appendf(nil, `{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"%d"}`, count)
					saves[i].SaveID[0], saves[i].SaveID[1] = byte(i+1), byte(count)
					saves[i].SaveID[2], saves[i].SaveID[3] = byte(count>>8), byte(count>>16)
				}
				verdicts, err := store.Commit(b.Context(), owner, saves)
				if err != nil {
					b.Fatal(err)
				}
				for i, v := range verdicts {
					if v.Kind != object.Committed {
						b.Fatalf("save %d: %+v", i, v)
					}
					saves[i].Base = v.Version
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "objects/s")
		})
	}
}

// BenchmarkDurableCall calls durable objects on SQLite with many callers.
func BenchmarkDurableCall(b *testing.B) {
	for _, c := range []struct {
		name    string
		callers int
		id      func(caller int) string
	}{
		{"distinct/callers=1", 1, strconv.Itoa},
		{"distinct/callers=256", 256, strconv.Itoa},
		{"hot/callers=64", 64, func(int) string { return "hot" }},
	} {
		b.Run(c.name, func(b *testing.B) {
			n := startNode(b, openStore(b))
			for i := range c.callers {
				must(b, n, callOf("Tally", c.id(i), "Add"))
			}
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var callers sync.WaitGroup
			for i := range c.callers {
				callers.Go(func() {
					call := callOf("Tally", c.id(i), "Add")
					for left.Add(-1) >= 0 {
						if _, err := n.Call(b.Context(), call); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			callers.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
}
