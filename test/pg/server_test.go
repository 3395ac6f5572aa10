package pg

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// asChild in the environment makes the test's binary a program that has a server.
const asChild = "GOVERSE_PG_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		s, err := open()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.cmd.Process.Pid)
		select {}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		Stop()
		os.Exit(code)
	}))
}

func number(t *testing.T, url, sql string) (n int) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if err := c.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDatabasesAreApart(t *testing.T) {
	a, b := Database(t), Database(t)
	if a == b {
		t.Fatal(a)
	}
	if first, second := Start(t), Start(t); first != second {
		t.Error("two servers in one binary")
	}
	number(t, a, `WITH x AS (SELECT 1) SELECT count(*)::int FROM x`)
	if n := number(t, b, `SELECT (current_setting('fsync')='on')::int`); n != 1 {
		t.Error("fsync is off")
	}
}

// TestRestart has what was committed survive a crash of the server.
func TestRestart(t *testing.T) {
	s := Private(t, "max_connections=20")
	url := s.Database(t)
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(t.Context(), `CREATE TABLE t AS SELECT 7 AS n`); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if n := number(t, url, `SELECT n FROM t`); n != 7 {
		t.Error(n)
	}
	if n := number(t, url, `SELECT current_setting('max_connections')::int`); n != 20 {
		t.Errorf("max_connections is %d", n)
	}
	if !strings.Contains(s.Log(), "was not properly shut down") {
		t.Errorf("it was no crash: %s", s.Log())
	}
}

// TestBackup has what was committed after a backup gone when that is put back, and the
// timeline another one where it came by a recovery.
func TestBackup(t *testing.T) {
	s := Private(t)
	url := s.Database(t)
	if err := execute(t, url, `CREATE TABLE t AS SELECT 1 AS n`); err != nil {
		t.Fatal(err)
	}
	b, err := s.Backup()
	if err != nil {
		t.Fatal(err)
	}
	const timeline = `SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int`
	for i, c := range []struct {
		back     func(*Backup) error
		timeline int
	}{{s.Recover, 2}, {s.PutBack, 1}} {
		if err := execute(t, url, `INSERT INTO t VALUES (2)`); err != nil {
			t.Fatal(err)
		}
		if err := c.back(b); err != nil {
			t.Fatal(i, err)
		}
		if n := number(t, url, `SELECT sum(n)::int FROM t`); n != 1 {
			t.Errorf("%d: put back is %d", i, n)
		}
		if n := number(t, url, timeline); n != c.timeline {
			t.Errorf("%d: timeline %d, want %d", i, n, c.timeline)
		}
	}
}

func execute(t *testing.T, url, sql string) error {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	_, err = c.Exec(t.Context(), sql)
	return err
}

// TestOrphan kills the process that has a server: the server ends too.
func TestOrphan(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("NOT TESTED: a server whose test was killed (only Linux tells it)")
	}
	if os.Getenv(Variable) != "" {
		t.Skip("NOT TESTED: a server whose test was killed: " + Variable + " names one that stays")
	}
	Start(t) // or skip
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	dir, err := os.MkdirTemp("", "orphan") // not t.TempDir: others may not enter that
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	child.Env = append(os.Environ(), asChild+"=1", "TMPDIR="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(line, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(line)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	for until := time.Now().Add(20 * time.Second); runs(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("the server (%d) has outlived its test", pid)
		}
	}
}

// runs says whether a process is there; one that nobody has waited for runs no more.
func runs(pid int) bool {
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil
}
