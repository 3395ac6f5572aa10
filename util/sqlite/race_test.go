package sqlite

import (
	"context"
	"database/sql/driver"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/objecttest"
)

// One shard of a file that two nodes have open is handed over again and again while
// its old holder keeps saving.
func TestRaceOfHandOvers(t *testing.T) {
	n := 500
	if testing.Short() {
		n = 50
	}
	report, err := raceOn(t, n, func(sql string) string { return sql })
	if err != nil || report.Bad > 0 {
		t.Fatalf("%v, error %v: %v", report, err, report.First)
	}
	t.Log(report)
}

// The race must be able to see what the fence and the version are for: the same
// statements without them go wrong.
func TestRaceMutants(t *testing.T) {
	const fence = ` EXISTS (SELECT 1 FROM goverse_shards WHERE shard_id=?8 AND epoch=?2 AND owner=?9)`
	for _, c := range []struct {
		name  string
		edits []string // pairs of old and new
	}{
		{"no fence", []string{fence, ` ?8=?8 AND ?9=?9`}},
		{"a fence of numbers only", []string{fence, ` ?9=?9 AND EXISTS (SELECT 1 FROM goverse_shards WHERE shard_id=?8 AND epoch=?2)`, ` AND s.owner = excluded.owner`, ``}},
		{"no version", []string{` AND version=?7`, ` AND ?7=?7`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			edit := strings.NewReplacer(c.edits...)
			var edited atomic.Bool
			report, err := raceOn(t, 40, func(sql string) string {
				changed := edit.Replace(sql)
				if changed != sql {
					edited.Store(true)
				}
				return changed
			})
			if err != nil || report.Bad == 0 || !edited.Load() {
				t.Fatalf("not caught: %v, error %v", report, err)
			}
			t.Logf("%v: %v", report, report.First)
		})
	}
}

// raceOn races two DBs on one file, whose statements are changed by edit.
func raceOn(t *testing.T, n int, edit func(sql string) string) (objecttest.HandOverReport, error) {
	t.Helper()
	path := tempPath(t)
	var nodes []object.FencedProvider
	for range 2 {
		db, err := open(t.Context(), Config{Path: path}, func(ctx context.Context, dsn string) (rawConn, error) {
			raw, err := dialDriver(ctx, dsn)
			return editedConn{raw, edit}, err
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
		nodes = append(nodes, NewSQLitePersistenceProvider(db))
	}
	return objecttest.RaceHandOvers(t.Context(), n, nodes...)
}

// editedConn changes statements before SQLite sees them.
type editedConn struct {
	rawConn
	edit func(sql string) string
}

func (c editedConn) PrepareContext(ctx context.Context, sql string) (driver.Stmt, error) {
	return c.rawConn.PrepareContext(ctx, c.edit(sql))
}
