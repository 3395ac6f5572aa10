//go:build linux

package hostile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/test/spawn"
)

// victim is the process that is attacked.
type victim struct {
	addresses
	t     *testing.T
	ask   io.WriteCloser
	lines *bufio.Scanner
	cast  atomic.Int32 // attackers that have an address
}

// startVictim starts one, which ends with the test, and well.
func startVictim(t *testing.T, i impatience) *victim {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimVariable+"="+t.TempDir(), inspectorVariable+"="+spawn.FreeAddress(t), kindOfVictims+"="+string(i))
	cmd.SysProcAttr = spawn.DiesWithUs(syscall.SIGKILL)
	var said bytes.Buffer
	cmd.Stderr = &said
	ask, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, ask: ask, lines: bufio.NewScanner(answers)}
	t.Cleanup(func() {
		ask.Close()
		late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil || bytes.Contains(said.Bytes(), []byte("panic")) {
			t.Errorf("the victim ended: %v\n%s", err, tail(said.Bytes()))
		}
	})
	v.read(&v.addresses)
	return v
}

// tail is the end of what a victim said.
func tail(b []byte) []byte { return b[max(0, len(b)-16<<10):] }

func (v *victim) read(into any) {
	v.t.Helper()
	if !v.lines.Scan() {
		v.t.Fatalf("the victim has ended: %v", v.lines.Err())
	}
	if err := json.Unmarshal(v.lines.Bytes(), into); err != nil {
		v.t.Fatalf("%v: %s", err, v.lines.Bytes())
	}
}

// state asks how it is.
func (v *victim) state() (s state) {
	v.t.Helper()
	if _, err := io.WriteString(v.ask, "how\n"); err != nil {
		v.t.Fatal(err)
	}
	v.read(&s)
	return s
}

// attack is one way of doing harm.
type attack struct {
	name string
	// mount returns with what was answered, when the attack is at its height. What it has
	// opened with its siege is closed behind it.
	mount func(s *siege) string
	limit string // that has to tell of it; "": none does
	heap  int    // MiB by which the victim may have grown then
	peak  int    // MiB by which it may grow for a moment; 0: as heap
}

// siege is an attack under way.
type siege struct {
	*testing.T
	*victim

	mu   sync.Mutex
	open []io.Closer
}

// What an attack may leave behind for a while: what has a buffer in a pool, and gRPC's
// connections that the victim has to itself.
const (
	loose     = 20 // goroutines
	looseHeap = 24 << 20
	goneAfter = 20 * time.Second
)

// run mounts the attack while a crowd calls.
func (a attack) run(t *testing.T, v *victim, c *crowd) {
	before := v.state()
	c.slowest.Store(0)
	s := &siege{T: t, victim: v}
	t.Cleanup(s.lift)
	began := time.Now()
	answer := a.mount(s)
	took := time.Since(began)
	height := v.state()
	s.lift()
	v.recovers(t, before)
	c.check(t)
	grown, peak := mib(height.Heap-before.Heap), mib(height.Peak-before.Heap)
	if grown > a.heap {
		t.Errorf("the victim's heap has grown by %d MiB, more than %d", grown, a.heap)
	}
	most := 2 * max(a.heap, a.peak)
	if *long { // seconds, in which the collector lets as much garbage lie as there is that lives
		most += mib(before.Heap)
	}
	if peak > most {
		t.Errorf("the victim's heap grew by %d MiB for a moment, more than %d", peak, most)
	}
	if a.limit != "" && height.Limits[a.limit] == before.Limits[a.limit] {
		t.Errorf("no limit %s was told of; there were %v", a.limit, height.Limits)
	}
	t.Logf("HOSTILE|%s|%s|%v|%d MiB|%d MiB|%v", a.name, answer, c.slowness(), grown, peak, took.Round(time.Millisecond))
}

func mib(bytes int64) int { return int(max(bytes, 0) >> 20) }

// recovers waits until the victim is as it was.
func (v *victim) recovers(t *testing.T, before state) {
	t.Helper()
	for deadline := time.Now().Add(goneAfter); ; time.Sleep(20 * time.Millisecond) {
		now := v.state()
		if now.Goroutines <= before.Goroutines+loose && now.Sockets <= before.Sockets+2 && now.Heap <= before.Heap+looseHeap {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v behind the attack the victim has %d goroutines, %d sockets and %d MiB; before it had %d, %d and %d", goneAfter,
				now.Goroutines, now.Sockets, mib(now.Heap), before.Goroutines, before.Sockets, mib(before.Heap))
		}
	}
}

// lift ends the attack.
func (s *siege) lift() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		c.Close() // the victim may have closed it
	}
	s.open = nil
}

func (s *siege) own(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, c)
}

// newcomer is a network address that nobody has attacked from yet.
func (v *victim) newcomer() *net.TCPAddr {
	n := v.cast.Add(1)
	return &net.TCPAddr{IP: net.IPv4(127, 1+byte(n>>16), byte(n>>8), byte(n))}
}

// dial opens a connection to a port.
func (s *siege) dial(from *net.TCPAddr, to string) *net.TCPConn {
	s.Helper()
	conn, err := (&net.Dialer{LocalAddr: from, Timeout: 10 * time.Second}).Dial("tcp", to)
	if err != nil {
		s.Fatal(err)
	}
	s.own(conn)
	return conn.(*net.TCPConn)
}

// patience is how long an attacker waits for what the victim is to do in the end.
const patience = 20 * time.Second * slow

// cutOff waits until the victim has ended the connection, and returns what it said first.
func (s *siege) cutOff(conn net.Conn) string {
	s.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	said, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	if e, ok := err.(net.Error); ok && e.Timeout() {
		s.Errorf("after %v the connection is still there; it said %.200q", patience, said)
	}
	return string(said)
}

// each runs f n times at once.
func each(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}
