package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/objecttest"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childVar); spec != "" {
		if err := child(spec); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// openDB opens a file with tables and closes it with the test.
func openDB(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), Config{Path: path})
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
	return db
}

func tempPath(t testing.TB) string { return filepath.Join(t.TempDir(), "goverse.db") }

func TestContract(t *testing.T) {
	objecttest.Run(t, func(t testing.TB) object.PersistenceProvider {
		return NewSQLitePersistenceProvider(openDB(t, tempPath(t)))
	})
}
