//go:build unix

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/client/goverseclient"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/secure"
	"github.com/xiaonanln/goverse/test/logbook"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
	"github.com/xiaonanln/goverse/test/pg"
	"github.com/xiaonanln/goverse/test/spawn"
)

// notary issues certificates with goverse cert, into a folder.
type notary struct {
	t   *testing.T
	dir string
}

func newNotary(t *testing.T) *notary {
	t.Helper()
	n := &notary{t, t.TempDir()}
	n.cert("ca")
	return n
}

func (n *notary) cert(args ...string) {
	n.t.Helper()
	if code, out := goverse(n.t, nil, append([]string{"cert"}, append(args, "--dir", n.dir)...)...); code != 0 {
		n.t.Fatal(out)
	}
}

func (n *notary) file(name string) string { return filepath.Join(n.dir, name) }

// issue makes a certificate for whom the flags describe.
func (n *notary) issue(name string, flags ...string) secure.TLSConfig {
	n.t.Helper()
	n.cert(append([]string{"issue", "--name", name}, flags...)...)
	return secure.TLSConfig{CertFile: n.file(name + ".pem"), KeyFile: n.file(name + ".key"), CAFile: n.file("ca.pem")}
}

// flagsOf is a value as flags that begin with prefix.
func flagsOf(prefix string, c secure.TLSConfig) []string {
	return []string{prefix + "-cert", c.CertFile, prefix + "-key", c.KeyFile, prefix + "-ca", c.CAFile}
}

// goverse runs the command line and returns its exit code and all that it said.
func goverse(t *testing.T, environment []string, args ...string) (code int, out string) {
	t.Helper()
	path, err := goverseBinary()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), path, args...)
	c.Dir = t.TempDir()
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Dir}, environment...)
	text, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), string(text)
}

// put replaces a file by the texts of others, in one step, as a mounted secret does.
func put(t *testing.T, file string, from ...string) {
	t.Helper()
	var all []byte
	for _, f := range from {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	err := os.WriteFile(file+".new", all, 0o600)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// encryptedEtcd starts an etcd that wants certificates of n, and returns what to show it.
func encryptedEtcd(t *testing.T, n *notary) (*member, secure.TLSConfig) {
	t.Helper()
	server := n.issue("etcd", "--host", "127.0.0.1")
	m := &member{name: "etcd1", dir: t.TempDir(), client: spawn.FreeAddress(t), peer: spawn.FreeAddress(t)}
	binary, err := etcdBinary()
	if err != nil {
		t.Fatal(err)
	}
	m.p = (&site{binary: binary, dir: m.dir}).launch(t, "--name", m.name, "--data-dir", filepath.Join(m.dir, "data"), "--log-level", "error",
		"--listen-client-urls", "https://"+m.client, "--advertise-client-urls", "https://"+m.client,
		"--cert-file", server.CertFile, "--key-file", server.KeyFile, "--trusted-ca-file", server.CAFile, "--client-cert-auth",
		"--listen-peer-urls", "http://"+m.peer, "--initial-advertise-peer-urls", "http://"+m.peer, "--initial-cluster", m.name+"=http://"+m.peer)
	return m, n.issue("member-of-goverse", "--client", "goverse")
}

// All processes of a cluster speak over TLS to each other, to an etcd that knows its
// clients by certificate, to clients and to operators. Their certificates, and the
// authority itself, are replaced while clients call, and no call fails.
func TestAnEncryptedCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs real processes: not with -short")
	}
	coordination, first, second := newNotary(t), newNotary(t), newNotary(t)
	etcd, toEtcd := encryptedEtcd(t, coordination)
	own := opened(t, toEtcd)
	f := newFleetBy(t, nil, etcdmanager.Config{Endpoints: []string{etcd.client}, Credentials: own.Credentials(), DialTimeout: 30 * time.Second})
	f.members = []*member{etcd} // no roads, whose addresses no certificate is for

	shared := first.issue("shared", "--host", "127.0.0.1")
	etcdFlags := flagsOf("--etcd-tls", toEtcd)
	use := func(c secure.TLSConfig) { f.keys = append(append(flagsOf("--tls", c), etcdFlags...), "--require-tls") }
	use(shared)
	gate := f.begin(2, 1)[0]
	httpAddress := f.gates[gate].word(t, "HTTP on ")
	wrongWays(t, etcd.client, httpAddress, toEtcd, shared)

	page := showInspector(t, etcd.client, append(etcdFlags, "--tls-cert", shared.CertFile, "--tls-key", shared.KeyFile, "--require-tls"))
	if status, text := page.get("/api/v1/snapshot"); status != http.StatusOK || !strings.Contains(text, `"nodes":[{`) {
		t.Errorf("%d %s", status, text)
	}

	trusted := filepath.Join(t.TempDir(), "clients-ca.pem")
	put(t, trusted, shared.CAFile)
	calls := callOver(t, gate, trusted)
	// The next authority is trusted beside the first before anything is issued by it.
	both := filepath.Join(t.TempDir(), "both.pem")
	put(t, both, first.file("ca.pem"), second.file("ca.pem"))
	put(t, shared.CAFile, both)
	next := second.issue("next", "--host", "127.0.0.1")
	use(secure.TLSConfig{CertFile: next.CertFile, KeyFile: next.KeyFile, CAFile: both})
	f.node("") // the others let it in, so they believe the second authority
	f.settle()
	put(t, shared.KeyFile, next.KeyFile)
	put(t, shared.CertFile, next.CertFile)
	put(t, shared.CAFile, next.CAFile)
	use(next)
	f.node("") // it believes the second alone, and the others are known by it
	f.settle()
	put(t, trusted, next.CAFile)
	if err := calls.client.Reconnect(within(t, 30*time.Second)); err != nil {
		t.Error(err)
	}
	calls.end(t)

	if code, out := goverse(t, nil, "call", "DurableLog/tls", "Append", `{"id":"by hand"}`, "--gate", httpAddress, "--gate-tls-ca", next.CAFile); code != 0 || !strings.Contains(out, `"length": "1"`) {
		t.Errorf("%d %s", code, out)
	}
	for _, programs := range []map[string]*program{f.gates, f.nodes} {
		for address := range programs {
			f.stop(programs, address)
		}
	}
}

func opened(t *testing.T, c secure.TLSConfig) *secure.Files {
	t.Helper()
	files, err := secure.Open(c, event.Listener{})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// word is what the process has said after text, up to a comma or a blank.
func (p *program) word(t *testing.T, text string) string {
	t.Helper()
	if !p.says(text, 30*time.Second) {
		t.Fatal(p.output())
	}
	_, rest, _ := strings.Cut(p.output(), text)
	return rest[:strings.IndexAny(rest, ", \n")]
}

// wrongWays tries what must not lead anywhere, and is to say what to do.
func wrongWays(t *testing.T, etcd, gate string, toEtcd, member secure.TLSConfig) {
	t.Helper()
	nodes := []string{"nodes", "--etcd", etcd, "--timeout", "2s"}
	for _, c := range []struct {
		says string
		code int
		args []string
	}{
		{"127.0.0.1", 0, append(nodes, flagsOf("--etcd-tls", toEtcd)...)},
		{"encrypts its connections, and this end speaks in plain text", 1, nodes},
		{"give both the same", 1, append(nodes, flagsOf("--etcd-tls", member)...)},
		{"certificate, of which there is none", 1, append(nodes, "--etcd-tls-ca", toEtcd.CAFile)},
		{"encrypts its connections", 1, []string{"call", "DurableLog/x", "Read", "--gate", gate}},
		{"give both the same", 1, []string{"call", "DurableLog/x", "Read", "--gate", gate, "--gate-tls-ca", toEtcd.CAFile}},
	} {
		if code, out := goverse(t, nil, c.args...); code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("goverse %v: %d %s", c.args, code, out)
		}
	}
}

// viewer is whoever looks at an inspector.
type viewer struct {
	t    *testing.T
	url  string
	http http.Client
}

func showInspector(t *testing.T, etcd string, flags []string) *viewer {
	t.Helper()
	binary, err := inspectorBinary()
	if err != nil {
		t.Fatal(err)
	}
	p := (&site{binary: binary, dir: t.TempDir()}).launch(t, append([]string{"--etcd", etcd, "--listen", "127.0.0.1:0"}, flags...)...)
	v := &viewer{t: t, url: strings.TrimSuffix(p.word(t, "open     "), "/")}
	v.http.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true} // whose it is, others check
	if !strings.HasPrefix(v.url, "https://") {
		t.Error(v.url)
	}
	return v
}

// get asks until the inspector has seen the cluster.
func (v *viewer) get(path string) (status int, text string) {
	v.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) { // between two questions
		r, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, v.url+path, nil)
		if err != nil {
			v.t.Fatal(err)
		}
		answer, err := v.http.Do(r)
		if err != nil {
			v.t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			v.t.Fatal(err)
		}
		if status, text = answer.StatusCode, string(body); strings.Contains(text, `"nodes":[{`) {
			break
		}
	}
	return status, text
}

// callers call through a gate over TLS, one call after the other each.
type callers struct {
	client  *goverseclient.Client
	stop    context.CancelFunc
	calling sync.WaitGroup
	good    atomic.Int64
}

func callOver(t *testing.T, gate, trusted string) *callers {
	t.Helper()
	client, err := goverseclient.NewClient([]string{gate}, goverseclient.WithTLS(goverseclient.TLSConfig{CAFile: trusted}), goverseclient.WithCallTimeout(callTimeout))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := client.Connect(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	c := &callers{client: client}
	var ctx context.Context
	ctx, c.stop = context.WithCancel(context.Background())
	t.Cleanup(c.calling.Wait)
	t.Cleanup(c.stop)
	for i := range 8 {
		c.calling.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				typ := [...]string{"DurableLog", "VolatileLog"}[n%2]
				entry := &logbook_pb.Entry{Id: fmt.Sprint("tls-", i, "-", n)}
				if _, err := client.CallObject(context.Background(), typ, fmt.Sprint("tls-", i, "-", n%20), "Append", entry); err != nil {
					t.Errorf("a call failed at %v: %v", logbook.Now(), err)
					return
				}
				c.good.Add(1)
			}
		})
	}
	return c
}

func (c *callers) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.calling.Wait()
	t.Logf("%d calls", c.good.Load())
	if c.good.Load() < 100 {
		t.Error("hardly anybody called")
	}
}

// A node keeps its objects in a PostgreSQL that proves who it is, and that knows its
// clients by certificate; one that does not prove it is not spoken to.
func TestAnEncryptedStore(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs real processes: not with -short")
	}
	n, foreign := newNotary(t), newNotary(t)
	server := n.issue("postgres", "--host", "127.0.0.1")
	misnamed := n.issue("elsewhere", "--host", "db.example")
	alice := n.issue("alice", "--client", "alice")
	db := pg.Private(t)
	db.Encrypt(t, "alice", server.CertFile, server.KeyFile, server.CAFile)
	url := fmt.Sprintf("postgres://alice@127.0.0.1:%d/postgres?sslmode=verify-full", db.Port())
	shows := func(c secure.TLSConfig) []string {
		return []string{"GOVERSE_POSTGRES=" + url, "PGSSLROOTCERT=" + c.CAFile, "PGSSLCERT=" + alice.CertFile, "PGSSLKEY=" + alice.KeyFile}
	}
	if code, out := goverse(t, shows(n.issue("any", "--client", "any")), "db", "init"); code != 0 {
		t.Errorf("%d %s", code, out)
	}
	if code, out := goverse(t, shows(secure.TLSConfig{CAFile: foreign.file("ca.pem")}), "db", "status"); code != 1 || !strings.Contains(out, "unknown authority") {
		t.Errorf("%d %s", code, out)
	}
	if code, out := goverse(t, []string{"GOVERSE_POSTGRES=" + url, "PGSSLROOTCERT=" + alice.CAFile}, "db", "status"); code != 1 || !strings.Contains(out, "certificate") {
		t.Errorf("without a certificate: %d %s", code, out)
	}

	path, err := counterBinary()
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func() (string, error) { return path, nil })
	s.env = shows(alice)
	p := s.start(t)
	if answer := s.mustCall(t, "Counter/apples/Add", `{"amount":"5"}`); !strings.Contains(answer, `"5"`) {
		t.Error(answer)
	}
	p.signal(syscall.SIGTERM)
	if code, _ := p.exit(20 * time.Second); code != 0 {
		t.Error(code, p.output())
	}
	if code, out := goverse(t, shows(alice), "db", "status", "-o", "json"); code != 0 || !strings.Contains(out, `"objects": 1`) {
		t.Errorf("%d %s", code, out)
	}

	db.Encrypt(t, "alice", misnamed.CertFile, misnamed.KeyFile, misnamed.CAFile)
	if code, out := goverse(t, shows(alice), "db", "status"); code != 1 || !strings.Contains(out, "certificate") {
		t.Errorf("%d %s", code, out)
	}
}
