package sqlite

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/object"
)

// state is 287 bytes of JSON, the row that the design's figures are made with.
func state(n int) []byte {
	head := fmt.Sprintf(`{"@type":"type.googleapis.com/chat.Room","n":%d,"text":"`, n)
	return []byte(head + strings.Repeat("x", 285-len(head)) + `"}`)
}

// desk is a holder that saves without checking anything twice.
type desk struct {
	*Provider
	object.Fence
	next     uint64
	versions map[string]uint64
}

func newDesk(t testing.TB, path string) *desk {
	t.Helper()
	d := &desk{
		Provider: NewSQLitePersistenceProvider(openDB(t, path)),
		Fence:    object.Fence{Shard: 7, Epoch: 1, Owner: "n:1#desk"},
		versions: map[string]uint64{},
	}
	refused, err := d.Stamp(t.Context(), d.Owner, []object.Fence{d.Fence})
	if err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	return d
}

func (d *desk) save(id string, data []byte) object.Save {
	d.next++
	s := object.Save{Ref: object.Ref{Type: "Bench", ID: id}, Data: data, Base: d.versions[id], Shard: d.Shard, Epoch: d.Epoch}
	binary.BigEndian.PutUint64(s.SaveID[:], d.next)
	return s
}

// must commits and demands that every save is taken.
func (d *desk) must(t testing.TB, saves []object.Save) {
	t.Helper()
	vs, err := d.Commit(t.Context(), d.Owner, saves)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vs {
		if v.Kind != object.Committed {
			t.Fatalf("save %d of %s: %+v", i, saves[i].Ref, v)
		}
		d.versions[saves[i].Ref.ID] = v.Version
	}
}

// BenchmarkCommit saves live objects; the figure that counts is objects/s. Put
// TMPDIR on the disk that is to be measured.
func BenchmarkCommit(b *testing.B) {
	for _, batch := range []int{1, 32, 256} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			const objects = 4096
			d := newDesk(b, tempPath(b))
			var saves []object.Save
			for i := range objects {
				saves = append(saves, d.save(fmt.Sprint(i), state(i)))
			}
			d.must(b, saves)
			n := 0
			b.ResetTimer()
			for b.Loop() {
				saves = saves[:0]
				for range batch {
					saves = append(saves, d.save(fmt.Sprint(n%objects), state(n)))
					n++
				}
				d.must(b, saves)
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "objects/s")
		})
	}
}

// BenchmarkFsync is the reference: what the disk can do at most, one at a time.
func BenchmarkFsync(b *testing.B) {
	f, err := os.Create(tempPath(b))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	row := make([]byte, 4120)
	for b.Loop() {
		if _, err := f.Write(row); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkCreate(b *testing.B) {
	d := newDesk(b, tempPath(b))
	saves := make([]object.Save, 256)
	n := 0
	for b.Loop() {
		for i := range saves {
			saves[i] = d.save(fmt.Sprint(n), state(n))
			n++
		}
		d.must(b, saves)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "objects/s")
}

func BenchmarkLoad(b *testing.B) {
	d := newDesk(b, tempPath(b))
	d.must(b, []object.Save{d.save("x", state(1))})
	for b.Loop() {
		if _, err := d.Load(b.Context(), object.Ref{Type: "Bench", ID: "x"}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStamp claims all shards, as a node that starts alone does.
func BenchmarkStamp(b *testing.B) {
	d := newDesk(b, tempPath(b))
	fences := make([]object.Fence, 8192)
	epoch := uint64(1)
	for b.Loop() {
		epoch++
		for i := range fences {
			fences[i] = object.Fence{Shard: i, Epoch: epoch}
		}
		if refused, err := d.Stamp(b.Context(), "n:1#bench", fences); err != nil || len(refused) > 0 {
			b.Fatal(refused, err)
		}
	}
}

// BenchmarkOpen is what the store adds to the start of a program.
func BenchmarkOpen(b *testing.B) {
	path := tempPath(b)
	newDesk(b, path)
	for b.Loop() {
		db, err := Open(b.Context(), Config{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		if err := db.InitSchema(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
