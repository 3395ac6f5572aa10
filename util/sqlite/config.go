// Package sqlite keeps objects in one SQLite file: the store of a single node, or
// of several processes on one host that share the file. It is the only package that
// imports an SQLite driver. The tables are drawn in docs/format/sql.md.
//
// What is acknowledged has been fsynced (journal_mode=WAL, synchronous=FULL). After
// an I/O error nothing is acknowledged until the file has been closed, opened again
// and found intact.
package sqlite

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Config says which file to open, and how. Only Path is needed.
type Config struct {
	// Path of the database file, on a local disk. It is created if it is missing;
	// its directory is not. SQLite keeps two more files beside it, Path-wal and
	// Path-shm: copy, move or delete all three together, with no process running.
	Path string
	// BusyTimeout bounds how long a write waits for another process's write; 5 s if 0.
	// Open and InitSchema wait for 30 s at least.
	BusyTimeout time.Duration
	// Readers is how many connections read at the same time, beside the one that
	// writes; 4 if 0, at most 64.
	Readers int
	// Warn, if set, is told when the file becomes suspect and when it is usable
	// again. It must be quick and must not use the DB.
	Warn func(text string, err error)
}

func (c Config) withDefaults() Config {
	c.BusyTimeout = cmp.Or(c.BusyTimeout, 5*time.Second)
	c.Readers = cmp.Or(c.Readers, 4)
	if c.Warn == nil {
		c.Warn = func(string, error) {}
	}
	return c
}

// Validate says everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	switch {
	case c.Path == "":
		errs = append(errs, errors.New("the path is empty: name the database file"))
	case strings.ContainsRune(c.Path, 0):
		errs = append(errs, fmt.Errorf("path %q has a NUL character", c.Path))
	case strings.HasPrefix(c.Path, ":memory:"), strings.HasPrefix(c.Path, "file:"):
		errs = append(errs, fmt.Errorf("path %q: want the path of a file, neither a URI nor a database in memory", c.Path))
	}
	if c.BusyTimeout < 0 || c.BusyTimeout > time.Hour {
		errs = append(errs, fmt.Errorf("a BusyTimeout of %v: want 0 to 1h", c.BusyTimeout))
	}
	if c.Readers < 0 || c.Readers > 64 {
		errs = append(errs, fmt.Errorf("%d Readers: want 0 to 64", c.Readers))
	}
	if len(errs) > 0 {
		return fmt.Errorf("sqlite config: %w", errors.Join(errs...))
	}
	return nil
}

// access is what a connection may do.
type access string

const (
	inspecting access = "ro"  // looks, and leaves the file untouched
	writing    access = "rw"  // the file must exist
	creating   access = "rwc" // the file is made if it is missing
	reading    access = "rw&_query_only=1"
)

// dsn is how the driver is told all this. wal_autocheckpoint is off because SQLite
// swallows the errors of its own checkpoints: see DB.checkpointIfDue.
func (c Config) dsn(a access) string {
	path := filepath.ToSlash(c.Path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/dir/file
	}
	u := url.URL{Scheme: "file", Path: path}
	return u.String() + "?_busy_timeout=" + strconv.FormatInt(c.BusyTimeout.Milliseconds(), 10) +
		"&_synchronous=FULL&_error_rc=1&_pragma=fullfsync(1)&_pragma=checkpoint_fullfsync(1)" +
		"&_pragma=wal_autocheckpoint(0)&mode=" + string(a)
}
