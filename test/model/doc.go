// Package model checks the shard protocol by trying everything: it walks each state
// that a small cluster can come to, breadth first, and reports a violated invariant
// with a shortest run that leads to it. The designed protocol passes; each mutant,
// the protocol without one of its guards, must fail, or is listed as a survivor.
//
//	go test ./test/model                        as CI does, with the race detector below a minute
//	go test -short ./test/model                 seconds
//	go test -v -model.full ./test/model         some minutes, 2 GB; shows each mutant's trace
//
// Every run is exhaustive within its bounds, and asserts how many states there are: a
// change that makes the model see less fails, as one that makes it see more does. Who
// means the change writes the new count down.
//
// # What is modelled
//
// Two spaces, because their product is too large to walk.
//
// Ownership is who holds a shard and whose write counts: two nodes, one shard with a
// durable and a volatile object; registrations that expire, local deadlines, restarts;
// claim, stamp, load, drain, stage, hand-over and its poisoning write; saves that are
// lost, late, abandoned and repeated; a leader that changes its mind; watches that come
// late; a wiped etcd; clocks that lie; the degraded mode without a lease. It checks I4,
// I6, I8 (reads) and I12 (the volatile object).
//
// Handover is a planned move while calls go on: two nodes, two shards with one volatile
// object each, up to six calls in chains: nested, re-entrant, fanned out, crossing;
// turns that are taken, lent and given back; root calls parked within a bound, nested
// calls admitted; snapshots with a number, lost, late, repeated and replaced; the door
// that shuts in one step for one shard or a batch; the transaction and its unknown
// outcome; redirects; a drain given up, a leader's second thoughts, a client that waits
// no longer, crashes and restarts of either node. It checks I4, I12, I19 (parking),
// I22, that nothing runs twice, that a re-entrant call meets the turn its chain has
// lent, and progress: no run gets stuck, from each state every call and drain can end,
// and without crashes no run is endless.
//
// # What is not
//
//   - More than two nodes; more than one object on a shard, so that "every activation
//     is at rest" is "the activation is".
//   - In Handover: leases that end while their node lives, stamps and durable saves
//     (Ownership has them); shared turns; the order of parked calls; the hold that
//     favours a starving drain, which is but a delay here, and a call here may be
//     delayed for as long as it likes; relays; the deadline of nested calls.
//   - In Ownership: chains, parking, and hand-over ids (a stage is told by its epoch, where the node goes by the id).
//   - Restores of an old etcd snapshot, group commit, OnCommit, exactly-once records,
//     reminders. Revisions stand for the records' bytes.
//
// # To change it
//
// A guard of the protocol that changes, changes here in the same commit. To add a
// mutant: name it in mutant.go and say there what it lacks; ask for it at the guard
// that it removes (m.Mutant == ...); and write into ownershipMutants or
// handoverMutants of the tests which invariant it breaks, in how many steps, within
// the smallest bounds that show it. A mutant that breaks nothing belongs to the
// survivors, with the reason why its guard stays.
package model
