package sqlite

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/bench/durable"
	"github.com/xiaonanln/goverse/object"
)

// unfenced admits every save, in place of fenced.
const unfenced = ` ?8=?8 AND ?9=?9`

// openBare opens a file whose saves do not look at fences.
func openBare(t testing.TB) *Provider {
	db, err := open(t.Context(), Config{Path: tempPath(t)}, func(ctx context.Context, dsn string) (rawConn, error) {
		raw, err := dialDriver(ctx, dsn)
		return editedConn{raw, func(sql string) string { return strings.ReplaceAll(sql, fenced, unfenced) }}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := db.InitSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	return NewSQLitePersistenceProvider(db)
}

// BenchmarkFencing is what it costs that a save looks at its fence: calls and saves on a
// file, and on one that admits everybody, in turns.
func BenchmarkFencing(b *testing.B) {
	pair, err := durable.NewPair(b.Context(), NewSQLitePersistenceProvider(openDB(b, tempPath(b))), openBare(b))
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
}

// What BenchmarkFencing compares does differ in this.
func TestOnlyTheFencedStoreRefuses(t *testing.T) {
	for want, p := range map[object.VerdictKind]*Provider{
		object.FenceLost: NewSQLitePersistenceProvider(openDB(t, tempPath(t))),
		object.Committed: openBare(t),
	} {
		if got := durable.LateSave(t.Context(), p); got.Err != nil || got.Kind != want {
			t.Errorf("the save of a deposed holder is %+v, want %v", got, want)
		}
	}
}
