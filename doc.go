// Package goverse is the map of the house; it has no code. Goverse runs objects
// with identity and state (virtual actors) on a cluster of nodes: a program calls
// them by type and id, and the runtime decides where they live.
//
// # Where to begin
//
//   - A program's author: [github.com/xiaonanln/goverse/goverseapi], samples/counter, samples/chat.
//   - A test's author: [github.com/xiaonanln/goverse/goversetest].
//   - A reader of the code: the two corridors below, docs/tour.md, docs/decisions/.
//
// # Two corridors
//
// A call enters at a client and goes down through
//
//	gate/gateserver       authenticate, attach the caller
//	cluster               find the node that holds the object's shard
//	internal/peer         the road between processes, or a function call within one
//	node                  admit, enter, take a turn, invoke, settle
//	object                the user's method
//
// and its reply returns the same way. A push is its mirror: from object to node, to
// the gate, to the client's session.
//
// A shard, one of 8192 groups of objects, is moved by
//
//	cluster/etcdmanager        etcd's events, leases and transactions
//	cluster/consensusmanager   the shared picture, and the leader's pen
//	cluster/sharding           the plan: pure arithmetic
//	cluster                    each node's steps from what it holds to what it should hold
//	node                       open a shard, drain it, close it
//
// # Floors
//
// A package imports only from floors below its own. arch_test.go holds the table
// and says why.
package goverse
