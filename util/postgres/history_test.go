package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/objecttest"
	"github.com/xiaonanln/goverse/test/pg"
)

// TestRewound puts the server back: by a recovery, which begins another timeline; by the
// same once more, which begins one of the same number; and as the copy of a disk, which
// goes on with the timeline that it had.
func TestRewound(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server time and again: not with -short")
	}
	s := pg.Private(t)
	p := NewPostgresPersistenceProvider(openURL(t, s.Database(t)))
	b, err := s.Backup()
	if err != nil {
		t.Fatal(err)
	}
	mark := func(back func(*pg.Backup) error) func() (func() error, error) {
		return func() (func() error, error) {
			b, err := s.Backup()
			return func() error { return back(b) }, err
		}
	}
	objecttest.RunRewound(t, p, mark(s.Recover))
	was, err := p.History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Recover(b); err != nil {
		t.Fatal(err)
	}
	now, err := p.History(t.Context())
	if err != nil || now == was || !strings.Contains(now, "timeline 00000002") || !strings.Contains(now, "cut short") {
		t.Errorf("on a timeline of the same number: %s, before %s, %v", now, was, err)
	}
	if err := p.AdoptHistory(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	objecttest.RunRewound(t, p, mark(s.PutBack))
}

// anew makes the tables anew with the rows that they had, as a dump does that is read in.
func anew(t *testing.T, url string) {
	t.Helper()
	script := []string{"BEGIN"}
	for _, table := range []string{"goverse_meta", "goverse_shards", "goverse_objects", "goverse_calls", "goverse_outbox"} {
		script = append(script, "ALTER TABLE "+table+" RENAME TO old", "CREATE TABLE "+table+" (LIKE old INCLUDING ALL)",
			"INSERT INTO "+table+" SELECT * FROM old", "DROP TABLE old")
	}
	sqlOf(t, url, strings.Join(append(script, "COMMIT"), ";"))
}

func TestDumpIsReadIn(t *testing.T) {
	url := pg.Database(t)
	p := NewPostgresPersistenceProvider(openURL(t, url))
	d := newDesk(t, p, 3)
	d.must(t, d.save("a", []byte(`{"n":1}`)))
	was, err := p.History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	anew(t, url)
	now, err := p.History(t.Context())
	if err != nil || now == was {
		t.Fatalf("%s, before %s, %v", now, was, err)
	}
	if err := p.AdoptHistory(t.Context(), was); !errors.Is(err, ErrOtherHistory) {
		t.Errorf("what was is adopted: %v", err)
	}
	if err := p.AdoptHistory(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if r, err := p.Load(t.Context(), object.Ref{Type: "Desk", ID: "a"}); err != nil || r.Version != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	d.must(t, d.save("b", []byte(`{"n":2}`)))
}

// Tables of another store, or of another version, are not taken for this one's past.
func TestAnotherStoreIsNotAdopted(t *testing.T) {
	for sql, want := range map[string]error{
		`UPDATE goverse_meta SET v='another' WHERE k='store_id'`:       ErrDamaged,
		`UPDATE goverse_meta SET v='99' WHERE k='schema_version'`:      ErrNewerSchema,
		`DROP TABLE goverse_meta`:                                      ErrDamaged,
		`DELETE FROM goverse_meta WHERE k='store_id'`:                  ErrDamaged,
		`UPDATE goverse_meta SET v='nothing' WHERE k='schema_version'`: ErrDamaged,
	} {
		url := pg.Database(t)
		p := NewPostgresPersistenceProvider(openURL(t, url))
		was, err := p.History(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		anew(t, url)
		sqlOf(t, url, sql)
		now, err := p.History(t.Context())
		if err != nil || now == was {
			t.Fatalf("%s: %s, before %s, %v", sql, now, was, err)
		}
		if err := p.AdoptHistory(t.Context(), now); !errors.Is(err, want) {
			t.Errorf("%s: %v", sql, err)
		}
	}
	url := pg.Database(t)
	p := NewPostgresPersistenceProvider(openURL(t, url))
	sqlOf(t, url, `DROP TABLE goverse_shards`)
	if name, err := p.History(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("without tables: %q, %v", name, err)
	}
}

// TestPasts draws what is made of the answers of servers, in whatever order they come.
func TestPasts(t *testing.T) {
	a, b := server{system: 1, timeline: "1"}, server{system: 1, timeline: "2"}
	var p pasts
	saw := func(what string, before mark, is server, log int64, falls int) {
		t.Helper()
		want := is
		want.falls = falls
		if got := p.saw(before, is, log); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	saw("the first", p.mark(), a, 100, 0)
	late := p.mark()
	saw("it grows", p.mark(), a, 200, 0)
	saw("an answer that is late", late, a, 150, 0)
	if p.log != 200 {
		t.Errorf("the log is %d long", p.log)
	}
	elder := p.mark()
	saw("it is shorter", p.mark(), a, 199, 1)
	saw("an answer of before", elder, a, 250, 0)
	saw("another that was asked before and says so too", elder, a, 199, 1)
	saw("it grows again", p.mark(), a, 210, 1)
	before := p.mark()
	saw("another timeline", p.mark(), b, 50, 1)
	saw("a late answer of the one before", before, a, 220, 1)
	saw("and of the other, which has grown", p.mark(), b, 60, 1)
	saw("it is shorter", p.mark(), b, 10, 2)
}

// The server of before answers on: what leads there is not used once another is adopted.
func TestConnectionsOfBeforeAreNotUsed(t *testing.T) {
	db := openURL(t, pg.Database(t))
	p := NewPostgresPersistenceProvider(db)
	var held []session
	for range 3 {
		s, err := db.acquire(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, s)
	}
	was := db.pasts.current()
	for _, s := range held {
		s.Conn.Conn().PgConn().CustomData()[fitKey] = server{system: was.system, timeline: "00000000"}
		s.Release()
	}
	name, err := p.History(t.Context())
	if err != nil || !strings.Contains(name, was.String()) {
		t.Errorf("%s, %v, want %v", name, err, was)
	}
	for range 5 {
		if _, err := p.Load(t.Context(), object.Ref{Type: "T", ID: "a"}); err != nil {
			t.Error(err)
		}
	}
	if n := db.pool.Stat().TotalConns(); n != 1 {
		t.Errorf("%d connections are left", n)
	}
}
