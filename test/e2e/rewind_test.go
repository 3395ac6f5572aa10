//go:build unix

package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/test/logbook"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
	"github.com/xiaonanln/goverse/test/pg"
	"github.com/xiaonanln/goverse/util/postgres"
)

// PostgreSQL is put back to a backup under real nodes that go on running. They notice by
// themselves, stamp all that they hold anew, and serve on: what was acknowledged before
// the backup is there, what came between it and the end is gone, what came after is
// there, in one history, and no log ever lived twice.
func TestStoreIsPutBack(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and runs real processes: not with -short")
	}
	server := pg.Private(t)
	f := newFleet(t)
	f.store = server.Database(t)
	gates := f.begin(3, 1)
	nodes := slices.Collect(maps.Keys(f.nodes))
	before := &load{name: "put-back-", objects: 40}
	before.begin(t, 60, gates)
	before.awaitWell(t, 100, time.Now())
	before.end()

	backup, err := server.Backup()
	if err != nil {
		t.Fatal(err)
	}
	view := f.view()
	after := &load{name: "put-back-", objects: 40, from: 1 << 20}
	after.begin(t, 60, gates)
	after.awaitWell(t, 100, time.Now())
	const noticed = "the store may lack what it has acknowledged"
	for _, node := range nodes {
		if text := f.nodes[node].output(); strings.Contains(text, noticed) {
			t.Errorf("%s takes a restart for more:\n%s", node, text)
		}
	}
	gone := time.Now()
	if err := server.Recover(backup); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	f.eachSays(noticed, nodes)
	f.eachSays("stamped anew and served", nodes)
	t.Logf("the server was away for %v; all was stamped anew and served %v after it was back", back.Sub(gone), time.Since(back))
	after.awaitWell(t, 100, time.Now())
	after.end()

	for _, s := range f.view().Table.All() {
		if was := view.Table.Shard(s.ID); s.Current != was.Current || s.Registration != was.Registration || s.Epoch <= was.Epoch {
			t.Errorf("a shard was not raised where it was: %v, before %v", s, was)
			break
		}
	}
	judgePutBack(t, before, after, gone, back)
	f.judgeLives(before, after)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: f.store})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if findings, err := db.Verify(t.Context()); err != nil || len(findings) > 0 {
		t.Errorf("the tables: %q, %v", findings, err)
	}
}

// awaitWell waits for so many appends to durable logs that went well and began after a
// moment.
func (l *load) awaitWell(t *testing.T, count int, since time.Time) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // between two looks
		n := 0
		l.each(func(c told) {
			if typ, _ := l.ref(c.call); c.Err == nil && c.Began.After(since) && typ == "DurableLog" {
				n++
			}
		})
		if n >= count {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d calls went well:\n%s", n, strings.Join(l.history.Errors(), "\n"))
		}
	}
}

// judgePutBack holds the final logs against what callers were told before the backup,
// between it and gone, when the server was crashed, and after back.
func judgePutBack(t *testing.T, before, after *load, gone, back time.Time) {
	t.Helper()
	history := logbook.NewHistory()
	before.history.Each(history.Add)
	var undone, since int
	lost := map[string][]string{}
	after.history.Each(func(ref string, a logbook.Append) {
		switch {
		case a.Err != nil || a.Began.After(back):
			history.Add(ref, a)
			since++
		case a.Ended.Before(gone) && !volatile(ref):
			undone++
			lost[ref] = append(lost[ref], a.ID)
		}
	})
	final := map[string][]string{}
	for n := range before.objects {
		typ, id := before.ref(n)
		reply, err := before.clients[0].CallObject(within(t, callTimeout), typ, id, "Read", &logbook_pb.ReadRequest{})
		if err != nil {
			t.Fatalf("read %s/%s: %v", typ, id, err)
		}
		final[typ+"/"+id] = reply.(*logbook_pb.Page).GetIds()
	}
	for ref, list := range lost {
		for _, id := range list {
			if slices.Contains(final[ref], id) {
				t.Errorf("%s: %s was saved after the backup, and is there", ref, id)
			}
		}
	}
	for _, p := range history.Check(final, volatile) {
		t.Error(p)
	}
	ok, notExecuted, unknown := after.history.Count()
	t.Logf("%d saves are gone with what came after the backup; of all calls after the backup %d went well, %d did not run, of %d the outcome is unknown", undone, ok, notExecuted, unknown)
	if undone < 50 || since < 50 {
		t.Errorf("%d calls before the server was put back, and %d after it, say little", undone, since)
	}
}
