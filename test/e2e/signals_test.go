//go:build unix

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/test/spawn"
)

var mapstoreBinary = sync.OnceValues(func() (string, error) { return buildAt("examples/mapstore", "mapstore", false) })

// greeterBinary is the program that goverse new makes.
var greeterBinary = sync.OnceValues(func() (string, error) {
	goverse, err := goverseBinary()
	if err != nil {
		return "", err
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	project := filepath.Join(workshop, "greeter")
	if text, err := exec.Command(goverse, "new", "greeter", "--dir", project, "--goverse", root).CombinedOutput(); err != nil {
		return "", fmt.Errorf("goverse new: %w\n%s", err, text)
	}
	binary := filepath.Join(workshop, "greeterd")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = project
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build of what goverse new made: %w\n%s", err, text)
	}
	return binary, nil
})

// served is a program that runs until it is told to end.
type served struct {
	name   string
	binary func() (string, error)
	args   func(t *testing.T, s *site) []string
	ready  string // what it says when it is at work
	last   string // what it says when it has ended
	call   string // a path that it answers POST at, with {}; "": none
	stream string // a path whose answer goes on
	dir    string // where it runs; "": anywhere
	grpc   bool   // it has a port for clients over gRPC
}

const (
	endsWithin   = 10 * time.Second
	pushes       = "/api/v1/events/stream"
	objectsPath  = "/api/v1/objects/"
	endOfProgram = "stopped"
)

// Every program that serves ends with 0 when it gets SIGINT or SIGTERM, within 10 s and
// with a word, whether it is idle or has calls and open streams. Without -e2e.long SIGINT
// comes while it is idle and SIGTERM while it is not.
func TestEveryProgramEndsOnSignals(t *testing.T) {
	town := newSite(t, counterBinary)
	clock := town.start(t)
	etcd := town.etcd(t)
	own := func(more ...string) func(*testing.T, *site) []string {
		return func(_ *testing.T, s *site) []string { return append(s.flags(), more...) }
	}
	gate := func(name ...string) func(*testing.T, *site) []string {
		return func(_ *testing.T, s *site) []string {
			return append(name, "--etcd", etcd, "--listen", s.grpc, "--http-listen", s.http)
		}
	}
	inspect := func(name ...string) func(*testing.T, *site) []string {
		return func(_ *testing.T, s *site) []string { return append(name, "--etcd", etcd, "--listen", s.http) }
	}
	develop := func(t *testing.T, s *site) []string {
		port := freePorts(t, 1)
		s.http, s.grpc = fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.1:%d", port+1000)
		return []string{"dev", ".", "--nodes", "1", "--http-port", fmt.Sprint(port), "--inspector-listen", spawn.FreeAddress(t), "--data-dir", s.data}
	}
	add, snapshot, feed := objectsPath+"Counter/x/Add", "/api/v1/nodes/none/drain", "/api/v1/feed/events"
	programs := []served{
		{name: "samples/chat", binary: chatBinary, args: own("--inspector-listen", "off"), ready: "Ctrl-C stops it.", last: endOfProgram, call: objectsPath + "ChatRoom/x/Join", stream: pushes, grpc: true},
		{name: "samples/counter", binary: counterBinary, args: own(), ready: "Ctrl-C stops it.", last: endOfProgram, call: add, stream: pushes, grpc: true},
		{name: "examples/mapstore", binary: mapstoreBinary, args: own(), ready: "Ctrl-C stops it.", last: endOfProgram, call: add, stream: pushes, grpc: true},
		{name: "what goverse new makes", binary: greeterBinary, args: own(), ready: "Ctrl-C stops it.", last: endOfProgram, call: objectsPath + "Greeter/x/Greet", stream: pushes, grpc: true},
		{name: "cmd/gate", binary: gateBinary, args: gate(), ready: "serving clients as", last: endOfProgram, call: add, stream: pushes, grpc: true},
		{name: "goverse gate", binary: goverseBinary, args: gate("gate"), ready: "serving clients as", last: endOfProgram, call: add, stream: pushes, grpc: true},
		{name: "cmd/inspector", binary: inspectorBinary, args: inspect(), ready: "Ctrl-C stops it.", last: endOfProgram, call: snapshot, stream: feed},
		{name: "goverse inspector", binary: goverseBinary, args: inspect("inspector"), ready: "Ctrl-C stops it.", last: endOfProgram, call: snapshot, stream: feed},
		{name: "goverse dev", binary: goverseBinary, args: develop, ready: "Ctrl-C stops all.", last: endOfProgram, call: objectsPath + "Greeter/x/Greet", stream: pushes, dir: "greeter", grpc: true},
		{name: "goverse nodes --watch", binary: goverseBinary, args: func(*testing.T, *site) []string { return []string{"nodes", "--watch", "--etcd", etcd} }, ready: town.node},
		{name: "goverse top", binary: goverseBinary, args: func(*testing.T, *site) []string { return []string{"top", "--etcd", etcd} }, ready: town.node},
	}
	for _, p := range programs {
		if p.dir != "" {
			if _, err := greeterBinary(); err != nil {
				t.Fatal(err)
			}
			p.dir = filepath.Join(workshop, p.dir)
		}
		t.Run(p.name, func(t *testing.T) {
			for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
				for _, busy := range []bool{false, true} {
					if !*long && busy != (signal == syscall.SIGTERM) {
						continue
					}
					t.Run(fmt.Sprintf("%v,busy=%v", signal, busy), func(t *testing.T) {
						if p.call != "" { // else it needs the town by itself
							t.Parallel()
						}
						p.ends(t, signal, busy, clock)
					})
				}
			}
		})
	}
}

// ends starts the program and tells it to end; town is the cluster that it may be beside.
func (p served) ends(t *testing.T, signal syscall.Signal, busy bool, town *program) {
	s := newSite(t, p.binary)
	if p.dir != "" {
		s.dir = p.dir
	}
	run := s.launch(t, p.args(t, s)...)
	if !run.says(p.ready, time.Minute) {
		t.Fatal("it is not ready")
	}
	if busy && p.call == "" { // what it asks for is not answered
		town.signal(syscall.SIGSTOP)
		defer town.signal(syscall.SIGCONT)
		select {
		case <-time.After(1500 * time.Millisecond): // in which it has asked again
		case <-run.ended:
		}
	} else if busy {
		leave := p.visit(t, s)
		defer leave()
	}
	run.signal(signal)
	code, took := run.exit(endsWithin)
	t.Logf("exit code %d after %v", code, took.Round(time.Millisecond))
	out := run.output()
	if code != 0 || !strings.Contains(out[strings.Index(out, p.ready):], p.last) || strings.Contains(out, "ERROR:") {
		t.Errorf("exit code %d after %v, want 0 within %v, with the word %q and without an error; it said\n%s", code, took, endsWithin, p.last, out)
	}
	if c, err := net.Dial("tcp", s.http); err == nil {
		c.Close()
		t.Error("something of it goes on")
	}
}

// visit keeps the program at work until leave: one client calls again and again, one has
// sent half of a call, the others read streams.
func (p served) visit(t *testing.T, s *site) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{}}
	stream, err := client.Do(request(ctx, t, http.MethodGet, s.url(p.stream), ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	all.Go(func() {
		defer stream.Body.Close()
		_, _ = io.Copy(io.Discard, stream.Body)
	})
	half := p.halfACall(t, s)
	first := make(chan error, 1)
	all.Go(func() {
		for n := 0; ; n++ {
			r, err := client.Do(request(ctx, t, http.MethodPost, s.url(p.call), "{}"))
			if n == 0 {
				first <- err
			}
			if err != nil {
				return // the program has ended
			}
			_, _ = io.Copy(io.Discard, r.Body)
			r.Body.Close()
		}
	})
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	closers := closers{half.Close}
	if p.grpc {
		session, err := dialGRPC(s)
		if err != nil {
			t.Fatal(err)
		}
		pushes, err := session.gate.Register(ctx, &emptypb.Empty{})
		if err == nil {
			_, err = pushes.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		closers = append(closers, func() error { session.close(); return nil })
	}
	return func() {
		cancel()
		closers.Close()
		all.Wait()
		client.CloseIdleConnections()
	}
}

// halfACall is a call whose method the program waits to hear the end of.
func (p served) halfACall(t *testing.T, s *site) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.http)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n", p.call, s.http)
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("a call that is announced gets %q, %v", line, err)
	}
	fmt.Fprint(c, "{")
	return c
}

func request(ctx context.Context, t *testing.T, verb, url, body string) *http.Request {
	r, err := http.NewRequestWithContext(ctx, verb, url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
	}
	return r
}

// etcd is the address of the program's own.
func (s *site) etcd(t *testing.T) string {
	t.Helper()
	endpoint, err := etcdmanager.EndpointIn(s.data)
	if err != nil {
		t.Fatal(err)
	}
	return endpoint
}
