package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/bench/load/child"
	"github.com/xiaonanln/goverse/client/goverseclient"
)

// patience is for how long a cluster may take to form.
const patience = time.Minute

// fleet is a cluster of processes: an etcd, nodes that share a store, and gates. Ways that
// can be cut lead to the nodes, and from nodes and gates to etcd.
type fleet struct {
	dir    string
	etcd   *child.Process
	nodes  []*member
	gates  []*member
	client *goverseclient.Client // of all gates
}

// member is a node or a gate, through its lives.
type member struct {
	role   string
	name   string
	orders orders
	inward *road // everybody's way to a node
	etcd   *road // its way to etcd

	mu      sync.Mutex // protects following fields
	process *child.Process
}

// form starts the processes and returns when the cluster answers.
func form(ctx context.Context, nodes, gates int, common orders) (*fleet, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the cluster did not form within %v", patience))
	defer cancel()
	f := new(fleet)
	if err := f.startAll(ctx, nodes, gates, common); err != nil {
		return nil, errors.Join(err, context.Cause(ctx), f.close())
	}
	return f, nil
}

func (f *fleet) startAll(ctx context.Context, nodes, gates int, common orders) (err error) {
	if f.dir, err = os.MkdirTemp("", "goverse-continuity-"); err != nil {
		return err
	}
	if f.etcd, err = start(ctx, "etcd", orders{Dir: f.dir, program: common.program}); err != nil {
		return err
	}
	common.Dir, common.Quorum = f.dir, nodes
	for i := range nodes {
		m, err := f.member(ctx, "node", i, common)
		f.nodes = append(f.nodes, m)
		if err != nil {
			return err
		}
	}
	var addresses []string
	for i := range gates {
		m, err := f.member(ctx, "gate", i, common)
		f.gates = append(f.gates, m)
		if err != nil {
			return err
		}
		addresses = append(addresses, m.orders.Listen)
	}
	if f.client, err = goverseclient.NewClient(addresses); err != nil {
		return err
	}
	return f.client.Connect(ctx)
}

// member starts a node or a gate at the end of its roads. It is to be closed also if that
// fails.
func (f *fleet) member(ctx context.Context, role string, i int, common orders) (m *member, err error) {
	m = &member{role: role, name: role + " " + strconv.Itoa(i), orders: common}
	if m.etcd, err = newRoad(f.etcd.Address); err != nil {
		return m, err
	}
	o := &m.orders
	o.Etcd = m.etcd.address()
	if o.LogTo != "" {
		o.LogTo = filepath.Join(o.LogTo, fmt.Sprintf("%s-%d.log", role, i))
	}
	if o.Listen, err = freeAddress(); err != nil {
		return m, err
	}
	o.Advertise = o.Listen
	if role == "node" {
		if m.inward, err = newRoad(o.Listen); err != nil {
			return m, err
		}
		o.Advertise = m.inward.address()
	} else if o.HTTP, err = freeAddress(); err != nil {
		return m, err
	}
	return m, m.start(ctx)
}

// freeAddress is one on loopback with a port that the system does not hand out by itself,
// so that it is still free after a kill.
func freeAddress() (string, error) {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address, nil
		}
	}
	return "", errors.New("no free port between 20000 and 32000")
}

// start starts a child.
func start(ctx context.Context, role string, o orders) (*child.Process, error) {
	if o.program != "" {
		return child.StartOf(ctx, o.program, role, o.env())
	}
	return child.Start(ctx, role, o.env())
}

func (m *member) start(ctx context.Context) error {
	p, err := start(ctx, m.role, m.orders)
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.process = p
	return nil
}

func (m *member) alive() *child.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process
}

// kill ends the process as a power cut does.
func (m *member) kill() {
	p := m.alive()
	_ = p.Signal(os.Kill) // one that has died is what the end of the run tells of
	_ = p.End()           // of the signal
}

// drain ends the process as a deployment does.
func (m *member) drain() error {
	if err := m.alive().End(); err != nil {
		return fmt.Errorf("%s was to leave: %w", m.name, err)
	}
	return nil
}

// pause stops the process until ctx or d ends.
func (m *member) pause(ctx context.Context, d time.Duration) error {
	p := m.alive()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	rest(ctx, d)
	return p.Signal(syscall.SIGCONT)
}

// rest is time that a fault lasts, or that lies between two.
func rest(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// state is what the process says of itself.
func (m *member) state(ctx context.Context) (state, error) {
	text, err := m.alive().Ask(ctx, "state")
	if err != nil {
		return state{}, fmt.Errorf("%s: %w", m.name, err)
	}
	return parseState(text)
}

// warm calls each board once: then all shards have holders.
func (f *fleet) warm(ctx context.Context, ids []string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, id := range ids {
		if _, err := f.look(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// look asks a board for its count.
func (f *fleet) look(ctx context.Context, id string) (int64, error) {
	reply, err := f.client.CallObject(ctx, boardType, id, "Look", wrapperspb.Int64(0), goverseclient.WithAtLeastOnce())
	if err != nil {
		return 0, fmt.Errorf("%s/%s: %w", boardType, id, err)
	}
	count, ok := reply.(*wrapperspb.Int64Value)
	if !ok {
		return 0, fmt.Errorf("%s/%s answered with a %T", boardType, id, reply)
	}
	return count.Value, nil
}

// close ends the cluster, those first who need the others.
func (f *fleet) close() error {
	var problems []error
	if f.client != nil {
		problems = append(problems, f.client.Close())
	}
	problems = append(problems, endAll(f.gates), endAll(f.nodes))
	if f.etcd != nil {
		problems = append(problems, f.etcd.End())
	}
	for _, m := range slices.Concat(f.gates, f.nodes) {
		for _, r := range []*road{m.inward, m.etcd} {
			if r != nil {
				r.close()
			}
		}
	}
	if f.dir != "" {
		problems = append(problems, os.RemoveAll(f.dir))
	}
	return errors.Join(problems...)
}

// endAll ends members at once.
func endAll(members []*member) error {
	problems := make([]error, len(members))
	var ending sync.WaitGroup
	for i, m := range members {
		if p := m.alive(); p != nil {
			ending.Go(func() { problems[i] = p.End() })
		}
	}
	ending.Wait()
	return errors.Join(problems...)
}
