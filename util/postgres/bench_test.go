package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/test/pg"
)

// state is 287 bytes of JSON, the row that the design's figures are made with.
func state(n int) []byte {
	head := fmt.Sprintf(`{"@type":"type.googleapis.com/chat.Room","n":%d,"text":"`, n)
	return []byte(head + strings.Repeat("x", 285-len(head)) + `"}`)
}

const benchObjects = 4096

// BenchmarkCommit saves live objects, in batches, with the fence and without it: the
// same rows through the same connection. The difference is what fencing costs.
func BenchmarkCommit(b *testing.B) {
	unlocked := saveSQL(strings.TrimSuffix(fenceSQL, " FOR SHARE"), okSQL, casSQL, "")
	const raw = `UPDATE goverse_objects o SET data=i.data::jsonb, version=o.version+1, save_id=i.save_id, updated_at=now()
  FROM unnest($1::text[],$2::text[],$3::text[],$4::uuid[]) AS i(object_type, object_id, data, save_id)
  WHERE o.object_type=i.object_type AND o.object_id=i.object_id`
	for _, batch := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("fenced/%d", batch), func(b *testing.B) { benchCommit(b, batch, fencedSQL) })
		b.Run(fmt.Sprintf("unlocked/%d", batch), func(b *testing.B) { benchCommit(b, batch, dialect{stamp: stampSQL, save: unlocked}) })
		b.Run(fmt.Sprintf("raw/%d", batch), func(b *testing.B) {
			d := benchDesk(b, fencedSQL)
			s, err := d.acquire(b.Context(), "")
			if err != nil {
				b.Fatal(err)
			}
			defer s.Release()
			n := 0
			b.ResetTimer()
			for b.Loop() {
				a := saveArgs(d.Owner, d.batch(&n, batch), upTo(batch))
				if tag, err := s.Exec(b.Context(), raw, a[0], a[1], a[2], a[6]); err != nil || tag.RowsAffected() != int64(batch) {
					b.Fatal(tag, err)
				}
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "objects/s")
		})
	}
}

func upTo(n int) (part []int) {
	for i := range n {
		part = append(part, i)
	}
	return part
}

// benchDesk has all objects stored already.
func benchDesk(b *testing.B, sql dialect) *desk {
	p := NewPostgresPersistenceProvider(openURL(b, pg.Database(b)))
	p.sql = sql
	d := newDesk(b, p, 7)
	n := 0
	for n < benchObjects {
		d.must(b, d.batch(&n, 256)...)
	}
	return d
}

func (d *desk) batch(n *int, size int) (saves []object.Save) {
	for range size {
		saves = append(saves, d.save(fmt.Sprint(*n%benchObjects), state(*n)))
		*n++
	}
	return saves
}

func benchCommit(b *testing.B, batch int, sql dialect) {
	d := benchDesk(b, sql)
	n := 0
	b.ResetTimer()
	for b.Loop() {
		d.must(b, d.batch(&n, batch)...)
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "objects/s")
}

// BenchmarkLanes saves one object each in as many lanes as the provider has.
func BenchmarkLanes(b *testing.B) {
	p := NewPostgresPersistenceProvider(openURL(b, pg.Database(b)))
	lanes := make(chan *desk, p.Lanes())
	for i := range cap(lanes) {
		lanes <- newDesk(b, p, i)
	}
	b.ResetTimer()
	b.SetParallelism(4)
	b.RunParallel(func(b1 *testing.PB) {
		for b1.Next() {
			d := <-lanes
			d.must(b, d.save(fmt.Sprint("hot", d.Shard), state(1)))
			lanes <- d
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
}

// BenchmarkRecords saves one object with the record of a call and an effect.
func BenchmarkRecords(b *testing.B) {
	d := benchDesk(b, fencedSQL)
	n := 0
	for b.Loop() {
		s := d.batch(&n, 1)
		s[0].Calls = []object.CallRecord{{ID: fmt.Sprint(n), Status: object.CallDone, Result: state(1), Keep: 24 * 3600e9}}
		s[0].Effects = []object.Effect{{ID: fmt.Sprint(n), Kind: object.EffectPush, Target: object.Ref{ID: "s"}, Payload: state(1)}}
		d.must(b, s...)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
}

func BenchmarkLoad(b *testing.B) {
	d := benchDesk(b, fencedSQL)
	for b.Loop() {
		if _, err := d.Load(b.Context(), object.Ref{Type: "Desk", ID: "7"}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStamp claims all shards, as a node that starts alone does.
func BenchmarkStamp(b *testing.B) {
	p := NewPostgresPersistenceProvider(openURL(b, pg.Database(b)))
	fences := make([]object.Fence, 8192)
	epoch := uint64(1)
	for b.Loop() {
		epoch++
		for i := range fences {
			fences[i] = object.Fence{Shard: i, Epoch: epoch}
		}
		if refused, err := p.Stamp(b.Context(), "n:1#bench", fences); err != nil || len(refused) > 0 {
			b.Fatal(refused, err)
		}
	}
}

// BenchmarkFsync is the reference: the smallest commit that the server makes durable.
func BenchmarkFsync(b *testing.B) {
	db := openURL(b, pg.Database(b))
	s, err := db.acquire(b.Context(), "")
	if err != nil {
		b.Fatal(err)
	}
	defer s.Release()
	if err := s.script(b.Context(), `CREATE TABLE t (n int); INSERT INTO t VALUES (0)`); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Exec(b.Context(), `UPDATE t SET n=n+1`, pgx.QueryExecModeCacheStatement); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
