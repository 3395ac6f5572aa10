package postgres

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/objecttest"
	"github.com/xiaonanln/goverse/test/pg"
)

// rounds is how many hand-overs a race run has; GOVERSE_RACE_ROUNDS sets it.
func rounds(t testing.TB, short int) int {
	n, err := strconv.Atoi(os.Getenv("GOVERSE_RACE_ROUNDS"))
	if err != nil || n < 1 {
		n = short
		if testing.Short() {
			n = short / 4
		}
	}
	return n
}

// pairOf is one database opened twice, as by two nodes.
func pairOf(t testing.TB, url string, sql dialect) []object.FencedProvider {
	var list []object.FencedProvider
	for range 2 {
		p := NewPostgresPersistenceProvider(openURL(t, url))
		p.sql = sql
		list = append(list, p)
	}
	return list
}

// TestRace hands a shard over again and again while the old holder keeps saving.
func TestRace(t *testing.T) {
	report, err := objecttest.RaceHandOvers(t.Context(), rounds(t, 500), pairOf(t, pg.Database(t), fencedSQL)...)
	t.Log(report)
	if err != nil || report.Bad > 0 {
		t.Errorf("%v, error %v; the first: %v", report, err, report.First)
	}
}

// TestRaceMutants shows that the race run can fail: each part of the fence that is left
// out shows bad hand-overs.
func TestRaceMutants(t *testing.T) {
	const any = `s.epoch <= excluded.epoch`
	unlocked := strings.TrimSuffix(fenceSQL, " FOR SHARE")
	for name, sql := range map[string]dialect{
		"no lock":       {stamp: stampSQL, save: saveSQL(unlocked, okSQL, casSQL, "")},
		"FOR KEY SHARE": {stamp: stampSQL, save: saveSQL(unlocked+" FOR KEY SHARE", okSQL, casSQL, "")},
		"numbers only":  {stamp: stampOver(any), save: saveSQL(fenceSQL, `f.epoch=i.epoch AND $8::text <> ''`, casSQL, "")},
		"no version":    {stamp: stampSQL, save: saveSQL(fenceSQL, okSQL, `true`, "")},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			providers := pairOf(t, pg.Database(t), sql)
			for tried := 0; tried < 400; {
				report, err := objecttest.RaceHandOvers(ctx, rounds(t, 40), providers...)
				if err != nil {
					t.Fatal(err)
				}
				tried += report.HandOvers
				if report.Bad > 0 {
					t.Logf("%v; the first: %v", report, report.First)
					return
				}
			}
			t.Error("no bad hand-over in 400")
		})
	}
}
