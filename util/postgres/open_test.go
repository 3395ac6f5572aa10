package postgres

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/test/pg"
)

func TestDefaultConfig(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if got := c.connString(); got != "postgres://goverse:goverse@/goverse?host=localhost&port=5432&sslmode=disable" {
		t.Error(got)
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error("the zero Config:", err)
	}
}

func TestConfigValidate(t *testing.T) {
	for name, c := range map[string]Config{
		"port 70000": {Port: 70000}, `SSLMode "on"`: {SSLMode: "on"}, "NUL": {User: "a\x00"}, "1 MaxOpenConns": {MaxOpenConns: 1},
		"9 MaxIdleConns": {MaxOpenConns: 4, MaxIdleConns: 9}, "ConnectTimeout of -1s": {ConnectTimeout: -time.Second}, "1001 MaxOpenConns": {MaxOpenConns: 1001},
		"cannot parse": {URL: "postgres://h:secret@h:port/x"},
	} {
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("it tells the password: %v", err)
		}
	}
	err := Config{Port: -1, SSLMode: "on", MaxOpenConns: 1}.Validate()
	for _, part := range []string{"port", "SSLMode", "MaxOpenConns"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say everything: %v", part, err)
		}
	}
}

func TestConfigPassword(t *testing.T) {
	c := Config{User: "u/s@r", Password: "p:@/?#%", Database: "d b", Host: "10.0.0.1"}
	pc, err := c.withDefaults().pool()
	if err != nil {
		t.Fatal(err)
	}
	if cc := pc.ConnConfig; cc.User != "u/s@r" || cc.Password != "p:@/?#%" || cc.Database != "d b" || cc.Host != "10.0.0.1" || cc.Port != 5432 {
		t.Errorf("%s %s %s %s %d", cc.User, cc.Password, cc.Database, cc.Host, cc.Port)
	}
}

// TestConnectionRefused is a server that does not run.
func TestConnectionRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	_, err = NewDB(&Config{Host: "127.0.0.1", Port: port})
	if err == nil || !strings.Contains(err.Error(), "is the server running") {
		t.Error(err)
	}
}

// TestSilentServer is a server that never answers.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	_, err = NewDB(&Config{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, ConnectTimeout: 200 * time.Millisecond})
	if err == nil || time.Since(began) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// refused demands that a database is refused with words that say what to do.
func refused(t *testing.T, url string, kind error, words string) {
	t.Helper()
	db, err := Open(t.Context(), Config{URL: url})
	if err == nil {
		db.Close()
	}
	if err == nil || kind != nil && !errors.Is(err, kind) || !strings.Contains(err.Error(), words) {
		t.Errorf("%v; want one with %q", err, words)
	}
}

// TestUnfit opens servers and databases that would not keep what they acknowledge.
func TestUnfit(t *testing.T) {
	s := pg.Private(t)
	admin := s.Database(t)
	for setting, words := range map[string]string{"fsync": "set fsync=on", "full_page_writes": "set full_page_writes=on"} {
		sqlOf(t, admin, `ALTER SYSTEM SET `+setting+`=off`, `SELECT pg_reload_conf()`)
		eventually(t, setting+" is off", func() bool { return numberOf(t, admin, `SELECT (current_setting($1)='off')::int`, setting) == 1 })
		refused(t, admin, ErrUnfit, words)
		sqlOf(t, admin, `ALTER SYSTEM RESET `+setting, `SELECT pg_reload_conf()`)
		eventually(t, setting+" is on", func() bool { return numberOf(t, admin, `SELECT (current_setting($1)='on')::int`, setting) == 1 })
	}
	readOnly := s.Database(t)
	openURL(t, readOnly)
	sqlOf(t, readOnly, `ALTER DATABASE `+nameOf(t, readOnly)+` SET default_transaction_read_only=on`)
	refused(t, readOnly, ErrUnfit, "read-only")

	sqlOf(t, admin, `CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`)
	refused(t, named(t, admin, "latin"), ErrUnfit, "UTF8")
	refused(t, named(t, admin, "nobody"), nil, "there is no such database")

	sqlOf(t, admin, `CREATE ROLE guest LOGIN`)
	guest := as(t, admin, "guest", "")
	if db, err := Open(t.Context(), Config{URL: guest}); err != nil {
		t.Error(err)
	} else {
		defer db.Close()
		if err := db.InitSchema(t.Context()); err == nil || !strings.Contains(err.Error(), "lacks a privilege") {
			t.Errorf("init schema without a privilege: %v", err)
		}
	}
	wrongPassword(t, s, admin)
	standby(t, s, admin)
}

func wrongPassword(t *testing.T, s *pg.Server, admin string) {
	sqlOf(t, admin, `CREATE ROLE locked LOGIN SUPERUSER PASSWORD 'right'`)
	hba := filepath.Join(s.Data(), "pg_hba.conf")
	had, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hba, append([]byte("host all locked 127.0.0.1/32 scram-sha-256\n"), had...), 0o600); err != nil {
		t.Fatal(err)
	}
	sqlOf(t, admin, `SELECT pg_reload_conf()`)
	eventually(t, "the wrong password is refused", func() bool {
		db, err := Open(t.Context(), Config{URL: as(t, admin, "locked", "wrong")})
		if err == nil {
			db.Close()
		}
		return err != nil
	})
	refused(t, as(t, admin, "locked", "wrong"), nil, "the password is wrong")
	db, err := Open(t.Context(), Config{URL: as(t, admin, "locked", "right")})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
}

// standby makes the server one, which is refused, and promotes it, which is another
// history for whoever knew it before.
func standby(t *testing.T, s *pg.Server, admin string) {
	db := openURL(t, admin)
	p := NewPostgresPersistenceProvider(db)
	sqlOf(t, admin, `CHECKPOINT`)
	if err := os.WriteFile(filepath.Join(s.Data(), "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	refused(t, admin, ErrUnfit, "it is a standby")
	sqlOf(t, admin, `SELECT pg_promote()`)
	eventually(t, "the standby is promoted", func() bool { return numberOf(t, admin, `SELECT pg_is_in_recovery()::int`) == 0 })
	load := func() error {
		_, err := p.Load(t.Context(), object.Ref{Type: "T", ID: "a"})
		return err
	}
	var err error
	for range 100 { // connections that died with the server come first
		if err = load(); errors.Is(err, ErrOtherHistory) {
			break
		}
	}
	if !errors.Is(err, ErrOtherHistory) || !strings.Contains(err.Error(), "a standby was promoted") {
		t.Errorf("after a promotion: %v", err)
	}
	now, err := p.History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := load(); !errors.Is(err, ErrOtherHistory) {
		t.Errorf("after a look: %v", err)
	}
	if err := p.AdoptHistory(t.Context(), now); err != nil {
		t.Error(err)
	}
	if err := load(); err != nil {
		t.Errorf("after it was adopted: %v", err)
	}
	openURL(t, admin)
}

// eventually waits for a server that takes a moment to follow.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}

func parsed(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func nameOf(t testing.TB, url string) string { return strings.TrimPrefix(parsed(t, url).Path, "/") }

func named(t testing.TB, url, database string) string {
	u := parsed(t, url)
	u.Path = "/" + database
	return u.String()
}

func as(t testing.TB, dsn, user, password string) string {
	u := parsed(t, dsn)
	if u.User = url.User(user); password != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// TestSessionSettings has a database whose defaults would lose commits.
func TestSessionSettings(t *testing.T) {
	url := pg.Database(t)
	sqlOf(t, url, `ALTER DATABASE `+nameOf(t, url)+` SET synchronous_commit=off`)
	db := openURL(t, url)
	s, err := db.acquire(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	var v string
	if err := s.QueryRow(t.Context(), `SELECT current_setting('synchronous_commit')`).Scan(&v); err != nil || v != "on" {
		t.Errorf("synchronous_commit is %q, %v", v, err)
	}
	if err := foreign(t, url); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "synchronous_commit=off") {
		t.Errorf("a pool of the program's: %v", err)
	}
	sqlOf(t, url, `ALTER DATABASE `+nameOf(t, url)+` SET synchronous_commit=on`, `ALTER DATABASE `+nameOf(t, url)+` SET default_transaction_isolation='serializable'`)
	if err := foreign(t, url); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "serializable") {
		t.Errorf("a pool of the program's: %v", err)
	}
}

func foreign(t *testing.T, url string) error {
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, err = NewDBFromPool(t.Context(), pool, nil)
	return err
}

// TestForeignPool keeps objects through a pool of the program's.
func TestForeignPool(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), pg.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	db, err := NewDBFromPool(t.Context(), pool, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.InitSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := NewPostgresPersistenceProvider(db)
	if err := p.SaveObject(t.Context(), "T", "a", []byte(`{"n":1}`)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.LoadObject(t.Context(), "T", "a"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	var n int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM goverse_objects`).Scan(&n); err != nil || n != 1 {
		t.Errorf("the pool was closed, or lost the object: %d, %v", n, err)
	}
}

func TestSessionName(t *testing.T) {
	long := strings.Repeat("x", 56)
	for owner, want := range map[string]string{"10.0.0.1:47000#3f": "goverse:3f", "a#b#c": "goverse:c", "bare": "goverse:bare", "n#" + long[:55]: "goverse:" + long[:55]} {
		if got := sessionName(owner); got != want {
			t.Errorf("%s: %s, want %s", owner, got, want)
		}
	}
	for _, owner := range []string{"n#" + long, "n#é", "n#a\n"} {
		if got := sessionName(owner); len(got) > 63 || !strings.HasPrefix(got, "goverse:~") {
			t.Errorf("%q: %q", owner, got)
		}
	}
	db := openURL(t, pg.Database(t))
	for _, owner := range []string{"n#one", "n#two", "n#" + long} {
		s, err := db.acquire(t.Context(), owner)
		if err != nil {
			t.Fatal(err)
		}
		var name string
		if err := s.QueryRow(t.Context(), `SELECT current_setting('application_name')`).Scan(&name); err != nil || name != sessionName(owner) {
			t.Errorf("the session of %s is called %q, %v", owner, name, err)
		}
		s.Release()
	}
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	db, err := Open(t.Context(), Config{URL: pg.Database(t), MaxOpenConns: 6, MaxIdleConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var held []session
	for range 6 {
		s, err := db.acquire(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := db.acquire(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a seventh connection: %v", err)
	}
	for _, s := range held {
		s.Release()
	}
	eventually(t, "two connections are left", func() bool { return db.pool.Stat().TotalConns() == 2 })
}

func TestClosed(t *testing.T) {
	db := openURL(t, pg.Database(t))
	p := NewPostgresPersistenceProvider(db)
	for range 2 {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := p.Commit(t.Context(), "n#1", []object.Save{{Ref: object.Ref{Type: "T", ID: "a"}, Data: []byte("1"), SaveID: [16]byte{1}}})
	if !errors.Is(err, ErrClosed) || !errors.Is(err, object.ErrNotCommitted) {
		t.Error(err)
	}
	if err := db.InitSchema(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
