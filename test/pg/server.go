// Package pg gives tests a real PostgreSQL: one server for a test binary, private to
// it, in a temporary directory on a free port, run by an unprivileged user and stopped
// with the binary, whatever becomes of that.
//
//	func TestMain(m *testing.M) {
//		goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { pg.Stop(); os.Exit(code) }))
//	}
//
//	func TestStore(t *testing.T) { url := pg.Database(t) ... }
//
// GOVERSE_TEST_POSTGRES names another server to use instead, as a URL whose user may
// create databases. Without any PostgreSQL the tests are skipped, and say so.
package pg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xiaonanln/goverse/test/spawn"
)

// Variable names the server to use in place of a private one.
const Variable = "GOVERSE_TEST_POSTGRES"

// Server is a running PostgreSQL.
type Server struct {
	url      *url.URL // of its database postgres
	bin, dir string   // of a private server
	cmd      *exec.Cmd
	log      string
}

var shared struct {
	mu     sync.Mutex
	server *Server
	err    error
	tried  bool
}

// ErrNone says that this machine has no PostgreSQL.
var ErrNone = errors.New("there is no PostgreSQL here: install it (as root on Debian: apt-get install postgresql), or name a server with " + Variable)

// Start returns the server of this test binary, and starts it for the first test that
// asks. A machine without PostgreSQL skips the test.
func Start(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.tried {
		shared.tried = true
		shared.server, shared.err = open()
	}
	need(t, shared.err)
	return shared.server
}

// Stop ends the server of this test binary, if there is one. TestMain calls it last.
func Stop() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server != nil {
		shared.server.remove()
	}
	shared.server, shared.tried = nil, false
}

// Private starts a server for one test alone, with settings such as "port=1", and
// stops it at the test's end. Such a test is skipped where only Variable is.
func Private(t testing.TB, settings ...string) *Server {
	t.Helper()
	bin, err := findBin()
	need(t, err)
	s, err := create(bin, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	return s
}

func need(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, ErrNone):
		t.Skipf("NOT TESTED: PostgreSQL. %v", err)
	case err != nil:
		t.Fatal(err)
	}
}

func open() (*Server, error) {
	if v := os.Getenv(Variable); v != "" {
		u, err := url.Parse(v)
		if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
			return nil, fmt.Errorf("%s=%q: want postgres://user:password@host:port/database", Variable, v)
		}
		return &Server{url: u}, nil
	}
	bin, err := findBin()
	if err != nil {
		return nil, err
	}
	return create(bin, nil)
}

// findBin finds the directory of the server's programs.
func findBin() (string, error) {
	var dirs []string
	if p, err := exec.LookPath("postgres"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, filepath.Dir(p))
		}
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin"} {
		found, _ := filepath.Glob(pattern)
		slices.Reverse(found) // the newest first
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		if works(filepath.Join(dir, "postgres")) && works(filepath.Join(dir, "initdb")) {
			return dir, nil
		}
	}
	return "", ErrNone
}

// works asks a program for its version; a wrapper of another version's may not have one.
func works(program string) bool {
	out, err := exec.Command(program, "--version").Output()
	return err == nil && bytes.Contains(out, []byte("PostgreSQL"))
}

// create makes a cluster and starts its server.
func create(bin string, settings []string) (_ *Server, err error) {
	who, err := user()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, log: filepath.Join(dir, "log")}
	defer func() {
		if err != nil {
			s.remove()
		}
	}()
	if who != nil {
		if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := s.command(who, "initdb", "--pgdata", data, "--username", "goverse", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	const own = "listen_addresses='127.0.0.1'\nunix_socket_directories=''\nfsync=on\nmax_connections=200\nshared_buffers=64MB\n" +
		"logging_collector=off\nlog_min_messages=warning\nmax_wal_size=256MB\ndeadlock_timeout=200ms\n"
	conf := own + "port=" + strconv.Itoa(port) + "\n" + strings.Join(settings, "\n") + "\n"
	if err := appendTo(filepath.Join(data, "postgresql.conf"), conf); err != nil {
		return nil, err
	}
	s.url = &url.URL{Scheme: "postgres", User: url.User("goverse"), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Path: "/postgres", RawQuery: "sslmode=disable"}
	return s, s.start(who)
}

// user is who may run the server: nil is this process's own. PostgreSQL refuses root.
func user() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	const nobody = 65534
	for dir := os.TempDir(); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return nil, err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return nil, fmt.Errorf("PostgreSQL does not run as root, and an unprivileged user cannot enter %s: set TMPDIR to a directory that all may enter", dir)
		}
		if dir == filepath.Dir(dir) {
			return &syscall.Credential{Uid: nobody, Gid: nobody}, nil
		}
	}
}

func (s *Server) command(who *syscall.Credential, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = spawn.DiesWithUs(syscall.SIGQUIT)
	cmd.SysProcAttr.Credential = who
	return cmd
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// start starts the server and waits until it answers.
func (s *Server) start(who *syscall.Credential) error {
	logs, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logs.Close()
	s.cmd = s.command(who, "postgres", "-D", filepath.Join(s.dir, "data"))
	s.cmd.Stdout, s.cmd.Stderr = logs, logs
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for {
		c, err := pgx.Connect(ctx, s.url.String())
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			text, _ := os.ReadFile(s.log)
			return fmt.Errorf("the server does not answer: %w\n%s", err, text)
		}
	}
}

// Restart is a crash and a new start: nothing is finished, nothing is flushed
// (pg_ctl stop -m immediate). It returns when the server answers again.
func (s *Server) Restart() error { return s.RestartAfter(func() error { return nil }) }

// RestartAfter is Restart with something done in between, to its data for example. If do
// fails the server stays down.
func (s *Server) RestartAfter(do func() error) error {
	if err := s.Crash(); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	who, err := user()
	if err != nil {
		return err
	}
	return s.start(who)
}

// Own gives a file or a directory to the user whom a private server runs as.
func (s *Server) Own(path string) error {
	who, err := user()
	if err != nil || who == nil {
		return err
	}
	return os.Chown(path, int(who.Uid), int(who.Gid))
}

// Crash ends the server at once, as pg_ctl stop -m immediate does.
func (s *Server) Crash() error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		return err
	}
	_ = s.cmd.Wait() // it always reports the signal's exit code
	s.cmd = nil
	return nil
}

// Log is what the server has said.
func (s *Server) Log() string {
	text, _ := os.ReadFile(s.log)
	return string(text)
}

func (s *Server) remove() {
	_ = s.Crash()
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

var serial atomic.Int64

// Database makes an empty database on the binary's server and drops it with the test.
func Database(t testing.TB) (url string) {
	t.Helper()
	return Start(t).Database(t)
}

// Database makes an empty database and drops it with the test.
func (s *Server) Database(t testing.TB) (url string) {
	t.Helper()
	return s.DatabaseNamed(t, fmt.Sprintf("goverse_test_%d_%d", os.Getpid(), serial.Add(1)))
}

// DatabaseNamed is Database with a name of the test's choice, in lower case.
func (s *Server) DatabaseNamed(t testing.TB, name string) (url string) {
	t.Helper()
	if err := s.exec(`CREATE DATABASE ` + name + ` ENCODING 'UTF8' TEMPLATE template0`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.exec(`DROP DATABASE IF EXISTS ` + name + ` WITH (FORCE)`); err != nil && s.cmd != nil {
			t.Error(err)
		}
	})
	u := *s.url
	u.Path = "/" + name
	return u.String()
}

// Port is the port of 127.0.0.1 at which a private server listens. Its superuser is
// goverse, with any password.
func (s *Server) Port() int {
	port, _ := strconv.Atoi(s.url.Port()) // this package has written it
	return port
}

func (s *Server) exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.url.String())
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql)
	return errors.Join(err, c.Close(ctx))
}

// Data is the data directory of a private server.
func (s *Server) Data() string { return filepath.Join(s.dir, "data") }
