// Package sharding is the arithmetic of shards: which shard an object is in, what
// state a shard is in, and which node should hold it. It is pure.
package sharding

import (
	"strconv"
	"strings"
)

// NumShards is how many shards a cluster has unless it was created with fewer.
const NumShards = 8192

// ID names a shard, from 0.
type ID int

// FixedPrefix begins an id that is pinned to a shard: shard#17/name.
const FixedPrefix = "shard#"

// GetShardID is the shard of an object id among n: the one that a "shard#N/name"
// id names, else FNV-1a 32 of the id mod n.
func GetShardID(id string, n int) int {
	if pinned, ok := pinnedShard(id, n); ok {
		return pinned
	}
	const offset, prime = 2166136261, 16777619
	h := uint32(offset)
	for i := range len(id) {
		h = (h ^ uint32(id[i])) * prime
	}
	return int(h % uint32(n))
}

// Of is GetShardID as an ID.
func Of(id string, n int) ID { return ID(GetShardID(id, n)) }

func pinnedShard(id string, n int) (int, bool) {
	rest, ok := strings.CutPrefix(id, FixedPrefix)
	if !ok {
		return 0, false
	}
	digits, _, ok := strings.Cut(rest, "/")
	if !ok || len(digits) > 4 {
		return 0, false
	}
	shard, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || int(shard) >= n {
		return 0, false
	}
	return int(shard), true
}
