//go:build unix

package e2e

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/test/spawn"
)

// refuses runs the program, which has to end soon with code, and to say every one of
// these words.
func (s *site) refuses(t *testing.T, code int, args []string, words ...string) {
	t.Helper()
	p := s.launch(t, args...)
	got, took := p.exit(20 * time.Second * slow)
	said := p.output()
	if got != code {
		t.Errorf("%q: exit code %d after %v, want %d; it said\n%s", args, got, took, code, said)
	}
	for _, word := range words {
		if !strings.Contains(said, word) {
			t.Errorf("%q: it does not say %q, but\n%s", args, word, said)
		}
	}
	if strings.Contains(said, "goroutine ") {
		t.Errorf("%q: it panics:\n%s", args, said)
	}
}

func TestCommandLine(t *testing.T) {
	s := newSite(t, chatBinary)
	with := func(more ...string) []string { return append(s.flags(), more...) }
	s.refuses(t, 0, []string{"--help"}, "-listen", "-http-listen", "-gate-listen", "-data-dir", "-etcd", "localhost:48000")
	s.refuses(t, 2, with("--colour", "red"), "colour")
	s.refuses(t, 2, with("now"), `unexpected argument "now"`, "--help")
	s.refuses(t, 2, with("--min-quorum", "many"), "min-quorum", "many")
	s.refuses(t, 2, with("--gate-listen", s.http), "--gate-listen", "--http-listen", "same port")
	s.refuses(t, 2, with("--listen", s.http), "--listen", "--http-listen", "same port")
	s.refuses(t, 2, with("--ops-listen", s.node), "--ops-listen", "--listen", "same port")
	s.refuses(t, 2, with("--listen", "localhost"), "--listen", `"localhost"`, "host:port")
	s.refuses(t, 2, with("--http-listen", "localhost"), "--http-listen", `"localhost"`, "host:port")
	s.refuses(t, 2, with("--gate-listen", "localhost:99999"), "--gate-listen", "99999")
	s.refuses(t, 2, with("--advertise", "here"), "--advertise", "here")
	if _, err := os.Stat(s.data); !os.IsNotExist(err) {
		t.Errorf("a refused command line has left something at the data directory: %v", err)
	}
}

func TestTakenPort(t *testing.T) {
	s := newSite(t, chatBinary)
	for _, test := range []struct{ words, address string }{{"with --listen", s.node}, {"with --http-listen", s.http}, {"with --gate-listen", s.grpc}} {
		l, err := net.Listen("tcp", test.address)
		if err != nil {
			t.Fatal(err)
		}
		s.refuses(t, 1, s.flags(), test.words, test.address)
		l.Close()
	}
}

func TestDataDirectory(t *testing.T) {
	s := newSite(t, chatBinary)
	in := func(dir string) []string { return append(s.flags(), "--data-dir", dir) }
	file := filepath.Join(s.dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.refuses(t, 1, in(file), file, "--data-dir")
	s.refuses(t, 1, in(filepath.Join(file, "below")), file, "--data-dir")
	if b, err := os.ReadFile(file); string(b) != "precious" {
		t.Errorf("the file in place of a directory has become %q, %v", b, err)
	}
	if os.Getuid() != 0 { // root may write everywhere
		closed := filepath.Join(s.dir, "closed")
		if err := os.Mkdir(closed, 0o500); err != nil {
			t.Fatal(err)
		}
		s.refuses(t, 1, in(closed), closed, "--data-dir")
	}
	if _, err := os.Stat("/proc/self"); err == nil { // nobody may write here
		s.refuses(t, 1, in("/proc/goverse"), "/proc/goverse", "--data-dir")
	}

	first := s.start(t)
	second := &site{binary: s.binary, dir: s.dir, data: s.data, http: spawn.FreeAddress(t), grpc: spawn.FreeAddress(t), node: spawn.FreeAddress(t)}
	second.refuses(t, 1, second.flags(), s.data, "in use", fmt.Sprint(first.cmd.Process.Pid), "--data-dir")
	s.mustCall(t, "ChatRoom/general/Join", `{"userName":"guest"}`) // the first has not noticed
}

// TestDamage changes what is on the disk between two runs.
func TestDamage(t *testing.T) {
	s := newSite(t, chatBinary)
	p := s.start(t)
	text := strings.Repeat("precious ", 100)
	for i := range 40 {
		s.mustCall(t, fmt.Sprintf("ChatRoom/%d/SendMessage", i), `{"userName":"a","message":"`+text+`"}`)
	}
	p.signal(syscall.SIGTERM)
	if code, took := p.exit(stopWithin); code != 0 {
		t.Fatalf("exit code %d after %v\n%s", code, took, p.output())
	}
	noise := make([]byte, 16<<10)
	chance := rand.NewChaCha8([32]byte{1})
	chance.Read(noise)
	overwrite := func(name string, at float64) func(*testing.T, string) string {
		return func(t *testing.T, data string) string {
			paths, err := filepath.Glob(filepath.Join(data, name))
			if err != nil || len(paths) != 1 {
				t.Fatalf("%s: %q, %v", name, paths, err)
			}
			f, err := os.OpenFile(paths[0], os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(noise, int64(at*float64(info.Size()))&^4095); err != nil {
				t.Fatal(err)
			}
			return paths[0]
		}
	}
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, data string) (path string)
		words  []string
	}{
		{"SQLite head", overwrite("goverse.db", 0), []string{"goverse.db", "damaged"}},
		{"SQLite middle", overwrite("goverse.db", .5), []string{"goverse.db", "damaged"}},
		{"etcd head", overwrite("etcd/member/snap/db", 0), []string{"etcd", "damaged"}},
		{"etcd middle", overwrite("etcd/member/snap/db", .01), []string{"etcd", "damaged"}},
		{"etcd log", overwrite("etcd/member/wal/*.wal", 0), []string{"etcd", "damaged"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(data, os.DirFS(s.data)); err != nil {
				t.Fatal(err)
			}
			path := test.damage(t, data)
			before := fingerprint(t, path)
			s.refuses(t, 1, append(s.flags(), "--data-dir", data), append(test.words, data)...)
			if fingerprint(t, path) != before {
				t.Errorf("the damaged file %s was changed", path)
			}
		})
	}
	s.start(t) // the original is as it was
	for i := range 40 {
		if got := s.mustCall(t, fmt.Sprintf("ChatRoom/%d/History", i), `{}`); !strings.Contains(got, strings.TrimSpace(text)) {
			t.Fatalf("room %d has lost its message: %s", i, got)
		}
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return b
}

func fingerprint(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %v %x", info.Size(), info.Mode(), sha256.Sum256(content(t, path)))
}
