package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/bench/durable"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/test/pg"
)

// bareSQL saves without a look at any fence, and otherwise as fencedSQL does.
func bareSQL(t testing.TB) dialect {
	const none = `SELECT 0 AS shard_id, 0::bigint AS epoch, ''::text AS owner WHERE false`
	const join = `FROM i JOIN f ON f.shard_id=i.shard_id AND ` + okSQL
	sql := saveSQL(none, okSQL, casSQL, "")
	if strings.Count(sql, join) != 1 {
		t.Fatal("the statement that saves has changed: take the fence out of it here, too")
	}
	return dialect{stamp: stampSQL, save: strings.Replace(sql, join, `FROM i WHERE $8::text <> ''`, 1)}
}

func openWith(t testing.TB, sql dialect) *Provider {
	p := NewPostgresPersistenceProvider(openURL(t, pg.Database(t)))
	p.sql = sql
	return p
}

// BenchmarkFencing is what it costs that a save looks at its fence: calls and saves on a
// database, and on one that admits everybody, in turns; and how much of it is the lock.
func BenchmarkFencing(b *testing.B) {
	unlocked := dialect{stamp: stampSQL, save: saveSQL(strings.TrimSuffix(fenceSQL, " FOR SHARE"), okSQL, casSQL, "")}
	for _, without := range []struct {
		name string
		sql  dialect
	}{{"fence", bareSQL(b)}, {"lock", unlocked}} {
		b.Run(without.name, func(b *testing.B) {
			pair, err := durable.NewPair(b.Context(), openWith(b, fencedSQL), openWith(b, without.sql))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() {
				if err := pair.Close(); err != nil {
					b.Error(err)
				}
			})
			for _, way := range durable.Ways {
				b.Run(way.Name, func(b *testing.B) {
					for b.Loop() {
						cost, err := pair.Measure(b.Context(), way, 9, 300*time.Millisecond)
						if err != nil {
							b.Fatal(err)
						}
						for name, value := range cost.Report() {
							b.ReportMetric(value, name)
						}
					}
					b.ReportMetric(0, "ns/op")
				})
			}
		})
	}
}

// What BenchmarkFencing compares does differ in this.
func TestOnlyTheFencedStoreRefuses(t *testing.T) {
	for want, sql := range map[object.VerdictKind]dialect{object.FenceLost: fencedSQL, object.Committed: bareSQL(t)} {
		if got := durable.LateSave(t.Context(), openWith(t, sql)); got.Err != nil || got.Kind != want {
			t.Errorf("the save of a deposed holder is %+v, want %v", got, want)
		}
	}
}
