//go:build unix

package bank

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/xiaonanln/goverse/test/pg"
	"github.com/xiaonanln/goverse/util/postgres"
	"github.com/xiaonanln/goverse/util/sqlite"
)

// vault is the store of a branch, as the test sees it from outside.
type vault struct {
	name  string         // for --store
	store Store          // the product's way to it
	db    *sql.DB        // and one round the product
	harm  []func() error // what may happen to it
}

// Each change of an object's row is written down by the database itself.
const (
	journalSQL = `CREATE TABLE bank_journal (object_type text NOT NULL, object_id text NOT NULL, version bigint NOT NULL, save_id text NOT NULL)`

	// The program's own table. Nothing but the product keeps an order from being in it twice.
	ledgerSQL = `CREATE TABLE bank_ledger (order_id text NOT NULL, account text NOT NULL, amount bigint NOT NULL)`

	sqliteTriggers = `
CREATE TRIGGER bank_insert AFTER INSERT ON goverse_objects BEGIN
  INSERT INTO bank_journal VALUES (NEW.object_type, NEW.object_id, NEW.version, NEW.save_id); END;
CREATE TRIGGER bank_update AFTER UPDATE ON goverse_objects BEGIN
  INSERT INTO bank_journal VALUES (NEW.object_type, NEW.object_id, NEW.version, NEW.save_id); END;`

	postgresTriggers = `
CREATE FUNCTION bank_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO bank_journal VALUES (NEW.object_type, NEW.object_id, NEW.version, NEW.save_id::text); RETURN NULL; END $$;
CREATE TRIGGER bank_note AFTER INSERT OR UPDATE ON goverse_objects FOR EACH ROW EXECUTE FUNCTION bank_note();`
)

func sqliteVault(t *testing.T) *vault {
	path := filepath.Join(t.TempDir(), "bank.db")
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.InitSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := &vault{name: path, store: sqlite.NewSQLitePersistenceProvider(db)}
	v.open(t, "sqlite", "file:"+path+"?_pragma=busy_timeout(20000)", sqliteTriggers)
	return v
}

func postgresVault(t *testing.T) *vault {
	server := pg.Private(t)
	url := server.Database(t)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.InitSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := &vault{name: url, store: postgres.NewPostgresPersistenceProvider(db)}
	v.open(t, "pgx", url, postgresTriggers)
	v.harm = []func() error{server.Restart, func() error { return v.terminate(t) }}
	return v
}

// terminate has the server cut off the nodes wherever they are.
func (v *vault) terminate(t *testing.T) error {
	cut := v.number(t, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
  WHERE datname=current_database() AND application_name LIKE 'goverse:%' AND (state='active' OR random() < 0.5)`)
	if cut == 0 {
		return errors.New("no connection was there to be terminated")
	}
	return nil
}

func (v *vault) open(t *testing.T, driver, source, triggers string) {
	t.Helper()
	var err error
	if v.db, err = sql.Open(driver, source); err != nil {
		t.Fatal(err)
	}
	v.db.SetConnMaxLifetime(time.Second) // a server that was restarted has forgotten it
	t.Cleanup(func() { v.db.Close() })
	for _, s := range []string{journalSQL, ledgerSQL, triggers} {
		if _, err := v.db.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

// number is what a query of one number finds.
func (v *vault) number(t *testing.T, query string, args ...any) (n int64) {
	t.Helper()
	if err := v.db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}
