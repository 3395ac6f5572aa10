package postgres

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/xiaonanln/goverse/test/pg"
)

var update = flag.Bool("update", false, "write testdata anew")

// sqlOf runs statements on a database, beside the store.
func sqlOf(t testing.TB, url string, statements ...string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for _, sql := range statements {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatal(sql, err)
		}
	}
}

func numberOf(t testing.TB, url, sql string, args ...any) (n int64) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if err := c.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(sql, err)
	}
	return n
}

func TestSchemaIsFrozen(t *testing.T) {
	url := pg.Database(t)
	openURL(t, url)
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	has, err := describe(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/schema.sql", []byte(has), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if has != schemaSQL && !*update {
		t.Errorf("the tables are\n%s\nnot as in testdata/schema.sql (-update writes it): a released migration never changes", has)
	}
}

func TestInitSchemaAgain(t *testing.T) {
	db := openURL(t, pg.Database(t))
	id := *db.storeID.Load()
	for range 3 {
		if err := db.InitSchema(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if now := *db.storeID.Load(); now != id {
		t.Errorf("the store id was %s and is %s", id, now)
	}
}

// TestInitSchemaOfEight has eight processes make the tables at once.
func TestInitSchemaOfEight(t *testing.T) {
	url := pg.Database(t)
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			o := spawn(t, "init", url)
			ids[i] = o.line(t)
			o.end(t)
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || !strings.HasPrefix(id, "store ") {
			t.Fatalf("the eight found %q", ids)
		}
	}
	if n := numberOf(t, url, `SELECT count(*) FROM goverse_meta`); n != 2 {
		t.Errorf("goverse_meta has %d rows, want 2", n)
	}
}

func TestNewerSchema(t *testing.T) {
	url := pg.Database(t)
	db := openURL(t, url)
	sqlOf(t, url, `UPDATE goverse_meta SET v='99' WHERE k='schema_version'`)
	if err := db.InitSchema(t.Context()); !errors.Is(err, ErrNewerSchema) {
		t.Errorf("init schema: %v, want ErrNewerSchema", err)
	}
	if _, err := Open(t.Context(), Config{URL: url}); !errors.Is(err, ErrNewerSchema) {
		t.Errorf("open: %v, want ErrNewerSchema", err)
	}
	if v := numberOf(t, url, `SELECT v::int FROM goverse_meta WHERE k='schema_version'`); v != 99 {
		t.Errorf("the version is %d now", v)
	}
}

func TestDamagedSchema(t *testing.T) {
	for _, damage := range []string{
		`UPDATE goverse_meta SET v='one' WHERE k='schema_version'`, `DELETE FROM goverse_meta WHERE k='schema_version'`,
		`DELETE FROM goverse_meta WHERE k='store_id'`, `UPDATE goverse_meta SET v='-1' WHERE k='schema_version'`,
	} {
		url := pg.Database(t)
		openURL(t, url)
		sqlOf(t, url, damage)
		if _, err := Open(t.Context(), Config{URL: url}); !errors.Is(err, ErrDamaged) {
			t.Errorf("after %s: %v, want ErrDamaged", damage, err)
		}
	}
}

func TestNoSchema(t *testing.T) {
	db, err := Open(t.Context(), Config{URL: pg.Database(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p := NewPostgresPersistenceProvider(db)
	if _, err := p.StoreID(t.Context()); !errors.Is(err, ErrNoSchema) {
		t.Errorf("store id: %v", err)
	}
	if err := p.SaveObject(t.Context(), "T", "a", []byte(`{}`)); !errors.Is(err, ErrNoSchema) {
		t.Errorf("save: %v", err)
	}
}

// TestPlan holds the saving statement to the key's index, even where the tables are
// so small that to read them whole is cheaper: its plan is kept while they grow.
func TestPlan(t *testing.T) {
	url := pg.Database(t)
	db := openURL(t, url)
	d := newDesk(t, NewPostgresPersistenceProvider(db), 3)
	for i := range 8 {
		d.must(t, d.save(fmt.Sprint(i), []byte("1")))
	}
	sqlOf(t, url, `ANALYZE goverse_objects`, `ANALYZE goverse_shards`)
	s, err := db.acquire(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	if err := s.script(t.Context(), `SET plan_cache_mode=force_generic_plan; PREPARE p AS `+fencedSQL.save); err != nil {
		t.Fatal(err)
	}
	rows, _ := s.Query(t.Context(), `EXPLAIN EXECUTE p (NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL)`, pgx.QueryExecModeSimpleProtocol)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	plan := strings.Join(lines, "\n")
	for _, bad := range []string{"Seq Scan on goverse_objects", "Seq Scan on goverse_shards"} {
		if strings.Contains(plan, bad) {
			t.Errorf("the plan has a %s", bad)
		}
	}
	if !strings.Contains(plan, "Index Cond: ((object_type = ") {
		t.Error("the objects are not looked up by their key")
	}
	if t.Failed() {
		t.Log(plan)
	}
}

// offspring is a running child and what it has printed.
type offspring struct {
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	stderr strings.Builder // complete after cmd.Wait
}

func spawn(t testing.TB, mode, url string) *offspring {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := &offspring{cmd: exec.CommandContext(t.Context(), self)}
	o.cmd.Env = append(os.Environ(), childVar+"="+mode+" "+url)
	o.cmd.Stderr = &o.stderr
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o.lines = bufio.NewScanner(out)
	return o
}

func (o *offspring) line(t testing.TB) string {
	if !o.lines.Scan() {
		_ = o.cmd.Wait()
		t.Errorf("the child has ended: %s", o.stderr.String())
		return ""
	}
	return o.lines.Text()
}

func (o *offspring) end(t testing.TB) {
	if err := o.cmd.Wait(); err != nil {
		t.Errorf("child: %v: %s", err, o.stderr.String())
	}
}
