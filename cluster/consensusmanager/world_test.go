package consensusmanager

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/memkv"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
)

// world is an etcd and the processes on it, inside a bubble.
type world struct {
	t    *testing.T
	etcd *memkv.Store
	all  []*process

	byHand  bool        // nodes that are started now hand nothing over by themselves
	filling atomic.Bool // see overQuota

	mu    sync.Mutex // protects following field
	notes []string
}

// process is one Manager that runs. It claims what it is to claim, and hands over what
// is to move if it is told to.
type process struct {
	*Manager
	w     *world
	conn  *memkv.Conn
	moves bool        // it hands over
	hangs atomic.Bool // it does not for now
	stop  context.CancelFunc
	done  chan error

	mu  sync.Mutex // protects following fields
	reg *Registration
	n   int // registrations so far
}

func bubble(t *testing.T, body func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, etcd: memkv.NewStore()}
		defer w.etcd.Close()
		defer func() {
			for _, p := range w.all {
				p.leave()
			}
		}()
		body(w)
	})
}

func (w *world) node(address string, more ...func(*Config)) *process {
	p := w.launch(address, more...)
	w.all = append(w.all, p)
	return p
}

// launch starts a node that the world does not wait for.
func (w *world) launch(address string, more ...func(*Config)) *process {
	p := &process{w: w, conn: w.etcd.Connect(), done: make(chan error, 1), moves: !w.byHand}
	cfg := Config{
		KVs: []etcdmanager.KV{p.conn}, Address: address, NumShards: 12, StabilityDelay: 2 * time.Second, ReloadInterval: time.Hour,
		Listener: event.Listener{Notice: func(n event.Notice) { w.note(fmt.Sprintf("%s: %s: %v", address, n.Text, n.Err)) }},
	}
	for _, m := range more {
		m(&cfg)
	}
	var err error
	if p.Manager, err = New(cfg); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	go func() { p.done <- p.Run(ctx, p.serve) }()
	return p
}

func gate(c *Config) { c.Gate = true }

// leave ends the process, once.
func (p *process) leave() {
	p.stop()
	if err, ok := <-p.done; ok {
		close(p.done)
		p.conn.Close()
		if err != nil {
			p.w.t.Errorf("%s: %v", p.cfg.Address, err)
		}
	}
}

// crash ends the process without a word: its lease runs out.
func (p *process) crash() {
	p.conn.Set(memkv.Cut)
	p.leave()
}

func (p *process) serve(ctx context.Context, r *Registration) error {
	p.mu.Lock()
	p.reg = r
	p.n++
	p.mu.Unlock()
	for {
		v := p.View()
		if p.cfg.Gate || !p.act(ctx, r, v) {
			select {
			case <-v.Superseded():
			case <-r.Lost():
				return ErrLost
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// act does one thing that v calls for, and waits until the view shows it.
func (p *process) act(ctx context.Context, r *Registration, v *View) bool {
	var claims []*sharding.Shard
	var moves []Handover
	for _, s := range v.Table.All() {
		state := s.State(v.Members())
		if s.Target == r.Address && (state == sharding.Assigned || state == sharding.Orphaned) && !v.Hold {
			claims = append(claims, s)
		}
		if to, ok := v.Members().Find(s.Target); ok && p.moves && !p.hangs.Load() && state == sharding.Moving && s.HeldBy(r.Address, r.Registration) {
			moves = append(moves, Handover{Shard: s, To: Self{to.Address, to.Registration}, ID: "h"})
		}
	}
	for _, b := range ClaimBatches(claims) {
		if out, err := r.Claim(ctx, b); err == nil && out.Written {
			p.await(ctx, out.Revision)
			return true
		}
	}
	for _, b := range HandBatches(moves) {
		if out, err := r.HandOver(ctx, b); err == nil && out.Written {
			p.await(ctx, out.Revision)
			return true
		}
	}
	return false
}

func (p *process) registration() (*Registration, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reg, p.n
}

func (w *world) note(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, text)
}

func (w *world) said(part string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.notes, func(n string) bool { return strings.Contains(n, part) })
}

// until waits for a condition, bounded in the bubble's time. It tells how long it took.
func (w *world) until(what string, bound time.Duration, so func() bool) time.Duration {
	w.t.Helper()
	begin := time.Now()
	for !so() {
		if time.Since(begin) > bound {
			w.t.Fatalf("%s: not after %v; notes: %q", what, bound, w.notes)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	return time.Since(begin)
}

// settled says whether every process sees all shards held, evenly, by these nodes.
func (w *world) settled(nodes ...*process) func() bool {
	return func() bool {
		for _, p := range w.all {
			if p.stopped() {
				continue
			}
			v := p.View()
			if v.Meta == nil || v.Census().States[sharding.Held] != v.Table.Len() {
				return false
			}
			count := map[string]int{}
			for _, s := range v.Table.All() {
				count[s.Current]++
			}
			for _, n := range nodes {
				if c := count[n.cfg.Address]; c < v.Table.Len()/len(nodes) || c > (v.Table.Len()+len(nodes)-1)/len(nodes) {
					return false
				}
			}
		}
		return true
	}
}

func (p *process) stopped() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// operator commits a transaction of nobody in the cluster.
func (w *world) operator(txn etcdmanager.Txn) etcdmanager.Result {
	w.t.Helper()
	c := w.etcd.Connect()
	defer c.Close()
	r, err := c.Commit(context.Background(), txn)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func putKey(key, value string) etcdmanager.Txn {
	return etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Put(key, []byte(value), 0)}}
}

func deleteKey(key string) etcdmanager.Txn {
	return etcdmanager.Txn{Then: []etcdmanager.Op{etcdmanager.Delete(key)}}
}
