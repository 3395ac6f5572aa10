package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/xiaonanln/goverse/test/pg"
)

// TestDB makes, looks at, checks and empties a database.
func TestDB(t *testing.T) {
	url := pg.Private(t).Database(t)
	run := func(code int, words string, args ...string) outcome {
		t.Helper()
		o := runOn(t, nil, map[string]string{postgresVariable: url}, append([]string{"db"}, args...)...)
		if o.code != code || !strings.Contains(o.stdout+o.err, words) {
			t.Errorf("db %s: %s\nwant exit code %d and %q", args, o, code, words)
		}
		return o
	}
	run(0, "none: goverse db init makes it", "status")
	run(1, "the tables are missing", "verify")
	run(0, "version 1", "init")
	run(0, "version 1", "init", "--postgres", url)
	run(0, "nothing is wrong", "verify")
	run(0, "a fail-over to a standby may lose", "status")

	var status struct {
		StoreID string `json:"storeId"`
		Schema  int    `json:"schema"`
	}
	if err := json.Unmarshal([]byte(run(0, "{", "status", "-o", "json").stdout), &status); err != nil || status.Schema != 1 || status.StoreID == "" {
		t.Fatalf("%+v, %v", status, err)
	}
	run(2, "confirm it with --yes", "reset")
	run(1, "was not reset", "reset", "--yes", "another")
	run(0, "", "reset", "--yes", status.StoreID)
	run(0, "none: goverse db init makes it", "status")
	run(1, "there is no such database", "status", "--postgres", strings.Replace(url, "/goverse_test", "/nobody", 1))
}

// TestDBUsage is what is wrong before any database is asked.
func TestDBUsage(t *testing.T) {
	for _, c := range []struct{ line, words string }{
		{"db status", "no database: give --postgres, or set GOVERSE_POSTGRES"},
		{"db status --postgres http://h", "cannot parse"},
		{"db nonsense", "nonsense"},
		{"db reset now", "unexpected argument"},
	} {
		o := runOn(t, nil, nil, strings.Fields(c.line)...)
		if o.code != 2 || !strings.Contains(o.err, c.words) {
			t.Errorf("%s: %s\nwant exit code 2 and %q", c.line, o, c.words)
		}
	}
}
