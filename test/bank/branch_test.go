//go:build unix

package bank

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
	"github.com/xiaonanln/goverse/test/spawn"
)

// process is a program that runs.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it is gone

	mu  sync.Mutex // protects following field
	out bytes.Buffer
}

// Write takes what the process says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *process) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(err) // the process is ours: it can be signalled
	}
}

func (p *process) killed() bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// branch is a bank of processes: three nodes on one store and two gates. A node that
// dies is started again, each time with another boundary to die at.
type branch struct {
	t      *testing.T
	dir    string // of the programs
	vault  *vault
	acks   string
	etcd   string
	gates  []string // addresses
	wanted []Boundary
	keeper sync.WaitGroup

	mu      sync.Mutex // protects following fields
	random  *rand.Rand
	running []*life
	doors   []*process // gates
	todo    []Boundary // at which nodes are to die next
	met     map[Boundary]int
	killed  int
	closing bool
}

// life is one process of a node.
type life struct {
	*process
	at     Boundary // where it is to die once it is told to
	resend bool     // until then it dies where it would deliver again
}

// openBranch starts the processes, which are to die at the boundaries wanted; dir has
// the programs node and gate.
func openBranch(t *testing.T, dir string, v *vault, seed uint64, wanted []Boundary) *branch {
	t.Helper()
	etcd, err := embedded.Start(t.Context(), embedded.Config{Dir: filepath.Join(t.TempDir(), "coordination")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { etcd.Close() })
	b := &branch{
		t: t, dir: dir, vault: v, acks: filepath.Join(t.TempDir(), "acks"), etcd: etcd.Endpoint(), wanted: wanted, met: map[Boundary]int{},
		random: rand.New(rand.NewPCG(seed, 1)), running: make([]*life, 3),
	}
	for i := range b.running {
		b.keeper.Go(func() { b.keep(i) })
	}
	t.Cleanup(b.close)
	for range 2 {
		address := spawn.FreeAddress(t)
		b.gates = append(b.gates, address)
		p, err := b.launch("gate", "--listen", address, "--http-listen", "off", "--etcd", b.etcd)
		if err != nil {
			t.Fatal(err)
		}
		b.doors = append(b.doors, p)
	}
	return b
}

func (b *branch) launch(program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(filepath.Join(b.dir, program), args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.WaitDelay = 5 * time.Second
	p.cmd.SysProcAttr = spawn.DiesWithUs(syscall.SIGKILL)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState tells
		close(p.ended)
	}()
	return p, nil
}

// keep starts node i, again and again, until the branch is closed. Each time it has
// another address: that of a dead node is not free before its lease has ended.
func (b *branch) keep(i int) {
	for {
		l, closing := b.next()
		if closing {
			return
		}
		var err error
		l.process, err = b.launch("node", "--listen", spawn.FreeAddress(b.t), "--etcd", b.etcd, "--data-dir", filepath.Join(b.dir, "data"), "--stability", "300ms",
			"--store", b.vault.name, "--acks", b.acks, "--die-at", string(l.at), "--die-resending="+strconv.FormatBool(l.resend))
		if err != nil {
			b.t.Error(err)
			return
		}
		b.mu.Lock()
		b.running[i] = l
		if b.closing {
			l.signal(syscall.SIGKILL)
		}
		b.mu.Unlock()
		<-l.ended
		b.bury(l)
	}
}

// next is a new life: where it is to end.
func (b *branch) next() (l *life, closing bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.todo) == 0 {
		b.todo = slices.DeleteFunc(slices.Clone(b.wanted), func(at Boundary) bool { return at == BeforeSecondDelivery })
		b.random.Shuffle(len(b.todo), func(i, j int) { b.todo[i], b.todo[j] = b.todo[j], b.todo[i] })
	}
	l = &life{at: b.todo[0], resend: slices.Contains(b.wanted, BeforeSecondDelivery) && b.met[BeforeSecondDelivery] == 0 && b.killed > 0}
	b.todo = b.todo[1:]
	return l, b.closing
}

// bury notes how a life has ended.
func (b *branch) bury(l *life) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := l.at
	said := l.said()
	if strings.Contains(said, "dies "+string(BeforeSecondDelivery)) {
		at, b.todo = BeforeSecondDelivery, append([]Boundary{l.at}, b.todo...)
		for _, other := range b.running { // one is enough
			if other.resend {
				other.signal(syscall.SIGUSR2)
			}
		}
	}
	switch b.killed++; {
	case strings.Contains(said, "dies "+string(at)):
		b.met[at]++
	case !l.killed() && !b.closing:
		b.t.Errorf("a node ended by itself: %v\n%s", l.cmd.ProcessState, said)
		b.closing = true
	default:
		b.todo = append([]Boundary{at}, b.todo...)
	}
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// whole is the nodes, in an order of chance, if all of them serve.
func (b *branch) whole() []*life {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.running {
		if l == nil || !l.alive() || !strings.Contains(l.said(), "is ready") {
			return nil
		}
	}
	nodes := slices.Clone(b.running)
	b.random.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	return nodes
}

// missing is the boundaries at which no node has died and one should.
func (b *branch) missing() []Boundary {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.wanted), func(at Boundary) bool { return b.met[at] > 0 })
}

func (b *branch) close() {
	b.mu.Lock()
	b.closing = true
	for _, p := range b.doors {
		p.signal(syscall.SIGKILL)
	}
	for _, l := range b.running {
		if l != nil {
			l.signal(syscall.SIGKILL)
		}
	}
	b.mu.Unlock()
	b.keeper.Wait()
	for _, p := range b.doors {
		<-p.ended
	}
	for i, l := range b.running {
		if l != nil && b.t.Failed() {
			b.t.Logf("node %d said at last:\n%s", i, tail(l.said(), 40))
		}
	}
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
