package main

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
)

const prefix = "/goverse/"

// cluster writes into etcd what nodes would. All methods may be called concurrently.
type cluster struct {
	kv etcdmanager.KV

	mu     sync.Mutex // protects following fields; held across writes, which are in memory
	nodes  []string
	gates  []string
	births int
	writes int
	shards []sharding.Shard
	moved  int // the shard that moves next
}

var types = []string{"Cart", "ChatRoom", "Inbox", "Leaderboard", "Ledger", "Match", "Presence", "User"}

// begin makes a cluster that is well: its shards dealt over its nodes.
func (c *cluster) begin(ctx context.Context, nodes, gates int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ops := []etcdmanager.Op{
		c.record("meta", `{"cluster":"simulated","boot":"b1","store":"s1","shards":%d}`, sharding.NumShards),
		c.record("formed", `{"nodes":%d}`, nodes),
	}
	for range nodes {
		ops = append(ops, c.birthLocked()...)
	}
	ops = append(ops, c.record("leader", `{"node":%q,"reg":%q}`, c.nodes[0], registration(c.nodes[0])))
	for i := range gates {
		c.gates = append(c.gates, fmt.Sprintf("10.0.9.%d:48000", i+1))
		ops = append(ops, c.record("gates/"+c.gates[i], `{"reg":"g%d"}`, i+1))
	}
	for i := range sharding.NumShards {
		holder := c.nodes[i%nodes]
		c.shards = append(c.shards, sharding.Shard{ID: sharding.ID(i), Epoch: 1, Current: holder, Target: holder, Registration: registration(holder)})
		ops = append(ops, c.shardLocked(i))
	}
	return c.commit(ctx, ops)
}

func (c *cluster) record(key, format string, args ...any) etcdmanager.Op {
	return etcdmanager.Put(prefix+key, fmt.Appendf(nil, format, args...), 0)
}

func registration(address string) string { return "of-" + address }

func (c *cluster) birthLocked() []etcdmanager.Op {
	c.births++
	address := fmt.Sprintf("10.0.0.%d:47000", c.births)
	c.nodes = append(c.nodes, address)
	return []etcdmanager.Op{c.record("nodes/"+address, `{"reg":%q,"state":"ready","ver":"v0.9.0","types":%s}`, registration(address), quoted(types)), c.record("reg/"+registration(address), "%s", address)}
}

func quoted(list []string) (s string) {
	for _, t := range list {
		s += fmt.Sprintf(",%q", t)
	}
	return "[" + s[1:] + "]"
}

func (c *cluster) shardLocked(i int) etcdmanager.Op {
	c.writes++
	return etcdmanager.Put(fmt.Sprintf("%sshards/%04d", prefix, i), c.shards[i].Encode(fmt.Sprintf("%08d", c.writes)), 0)
}

func (c *cluster) commit(ctx context.Context, ops []etcdmanager.Op) error {
	for part := range slices.Chunk(ops, etcdmanager.MaxTxnOps) {
		if _, err := c.kv.Commit(ctx, etcdmanager.Txn{Then: part}); err != nil {
			return err
		}
	}
	return nil
}

// members is the nodes and the gates as they are now.
func (c *cluster) members() (nodes, gates []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes), c.gates
}

// join starts a node, which holds nothing at first.
func (c *cluster) join(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commit(ctx, c.birthLocked())
}

// kill ends a node; its shards go on naming it.
func (c *cluster) kill(ctx context.Context, address string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.nodes, address)
	if i < 0 || len(c.nodes) == 1 {
		return fmt.Errorf("%q cannot be killed", address)
	}
	c.nodes = slices.Delete(c.nodes, i, i+1)
	return c.commit(ctx, []etcdmanager.Op{etcdmanager.Delete(prefix + "nodes/" + address), etcdmanager.Delete(prefix + "reg/" + registration(address))})
}

// drain marks a node.
func (c *cluster) drain(ctx context.Context, address string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.nodes, address) {
		return fmt.Errorf("there is no node %q", address)
	}
	return c.commit(ctx, []etcdmanager.Op{c.record("nodes/"+address, `{"reg":%q,"state":"draining","ver":"v0.9.0","types":%s}`, registration(address), quoted(types))})
}

// move hands the next shards to the next nodes: those of nodes that are gone first.
func (c *cluster) move(ctx context.Context, count int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ops []etcdmanager.Op
	for range min(count, len(c.shards)) {
		i := slices.IndexFunc(c.shards, func(s sharding.Shard) bool { return !slices.Contains(c.nodes, s.Current) })
		if i < 0 {
			i = c.moved
			c.moved = (c.moved + 1) % len(c.shards)
		}
		s := &c.shards[i]
		at := slices.Index(c.nodes, s.Current)
		s.Current = c.nodes[(at+1)%len(c.nodes)]
		s.Target, s.Registration = s.Current, registration(s.Current)
		s.Epoch++
		ops = append(ops, c.shardLocked(i))
	}
	return c.commit(ctx, ops)
}
