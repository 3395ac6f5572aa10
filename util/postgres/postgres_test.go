package postgres

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/objecttest"
	"github.com/xiaonanln/goverse/test/pg"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childVar); spec != "" {
		if err := child(spec); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		pg.Stop()
		os.Exit(code)
	}))
}

// openURL opens a database with tables and closes it with the test.
func openURL(t testing.TB, url string) *DB {
	t.Helper()
	db, err := Open(t.Context(), Config{URL: url, Warn: func(text string, err error) { t.Log("warned:", text, err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.InitSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestContract(t *testing.T) {
	db := openURL(t, pg.Database(t))
	objecttest.Run(t, func(t testing.TB) object.PersistenceProvider { return NewPostgresPersistenceProvider(db) })
}
