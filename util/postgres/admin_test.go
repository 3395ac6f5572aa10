package postgres

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/test/pg"
)

func TestStatus(t *testing.T) {
	url := pg.Database(t)
	db, err := Open(t.Context(), Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	st, err := db.Status(t.Context())
	if err != nil || st.Schema != 0 || st.SchemaWanted != len(migrations) || st.Server == "" {
		t.Fatalf("%+v, %v", st, err)
	}
	d := newDesk(t, NewPostgresPersistenceProvider(openURL(t, url)), 3)
	call := object.CallRecord{ID: "c", Status: object.CallDone, Keep: time.Hour}
	save := d.save("a", []byte(`{"n":1}`))
	save.Calls, save.Effects = []object.CallRecord{call}, []object.Effect{{ID: "e", Kind: object.EffectPush, Target: object.Ref{ID: "s"}}}
	d.must(t, save, d.save("b", []byte(`2`)))
	d.must(t, d.save("b", nil))
	if _, err := d.BindCluster(t.Context(), "prod"); err != nil {
		t.Fatal(err)
	}
	st, err = db.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Schema != 1 || st.Cluster != "prod" || st.StoreID == "" || st.Fences != 1 || st.Objects != 1 || st.Tombstones != 1 || st.Calls != 1 || st.Effects != 1 ||
		st.Synchronous != "on" || st.LiveProcesses == 0 || st.Bytes == 0 || st.System == 0 || st.Timeline != "00000001" {
		t.Errorf("%+v", st)
	}
}

// TestVerify breaks each rule, and the tables.
func TestVerify(t *testing.T) {
	url := pg.Database(t)
	db := openURL(t, url)
	d := newDesk(t, NewPostgresPersistenceProvider(db), 3)
	save := d.save("a", []byte(`{"n":1}`))
	save.Effects = []object.Effect{{ID: "e", Kind: object.EffectPush, Target: object.Ref{ID: "s"}}}
	d.must(t, save)
	verify := func() []string {
		t.Helper()
		found, err := db.Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := verify(); len(found) > 0 {
		t.Fatalf("a healthy store: %q", found)
	}
	for _, c := range []struct{ broken, mend, says string }{
		{`UPDATE goverse_objects SET shard_id=9000, epoch=0`, `UPDATE goverse_objects SET shard_id=3, epoch=1`, "in a shard that does not exist"},
		{`UPDATE goverse_objects SET epoch=7`, `UPDATE goverse_objects SET epoch=1`, "the fences are older"},
		{`UPDATE goverse_objects SET created_at=updated_at+interval '1 s'`, `UPDATE goverse_objects SET created_at=updated_at`, "created after"},
		{`UPDATE goverse_outbox SET version=9`, `UPDATE goverse_outbox SET version=1`, "effects without"},
		{`DROP INDEX goverse_calls_newest`, `CREATE INDEX goverse_calls_newest ON goverse_calls (object_type, object_id, version, ord)`, "the tables lack: CREATE INDEX goverse_calls_newest"},
		{`ALTER TABLE goverse_objects ADD COLUMN mine int`, `ALTER TABLE goverse_objects DROP COLUMN mine`, ""},
	} {
		sqlOf(t, url, c.broken)
		found := verify()
		if has := slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, c.says) }); has != (c.says != "") || len(found) > 1 {
			t.Errorf("after %s: %q", c.broken, found)
		}
		sqlOf(t, url, c.mend)
	}
	if found := verify(); len(found) > 0 {
		t.Errorf("mended: %q", found)
	}
}

func TestReset(t *testing.T) {
	url := pg.Database(t)
	db := openURL(t, url)
	id := *db.storeID.Load()
	if err := db.Reset(t.Context(), "another"); !errors.Is(err, ErrNotReset) {
		t.Errorf("of another store: %v", err)
	}
	node := openURL(t, url)
	d := newDesk(t, NewPostgresPersistenceProvider(node), 3)
	d.must(t, d.save("a", []byte("1")))
	if err := db.Reset(t.Context(), id); !errors.Is(err, ErrNotReset) || !strings.Contains(err.Error(), "stop the nodes") {
		t.Errorf("beside a node: %v", err)
	}
	if n := numberOf(t, url, `SELECT count(*) FROM goverse_objects`); n != 1 {
		t.Fatal("the object is gone")
	}
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node's connections are gone", func() bool {
		return numberOf(t, url, `SELECT count(*) FROM pg_stat_activity WHERE datname=current_database() AND application_name LIKE 'goverse:%'`) == 0
	})
	if err := db.Reset(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if n := numberOf(t, url, `SELECT count(*) FROM pg_class WHERE relname LIKE 'goverse%'`); n != 0 {
		t.Errorf("%d relations are left", n)
	}
	if err := db.Reset(t.Context(), id); !errors.Is(err, ErrNoSchema) {
		t.Errorf("again: %v", err)
	}
	if err := db.InitSchema(t.Context()); err != nil || *db.storeID.Load() == id {
		t.Errorf("a new store has the old identity, or %v", err)
	}
}
