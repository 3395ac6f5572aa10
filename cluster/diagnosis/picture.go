// Package diagnosis says in words how a cluster is: what is wrong with it, why a shard,
// an object or a node is where it is, who has to act next, and what stands in the way. It
// is pure: a view in, sentences out.
package diagnosis

import (
	"strings"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
)

// Picture is a view together with what can only be told by its prefix. It is immutable.
type Picture struct {
	*consensusmanager.View
	Prefix string
	Strays []string // addresses with a key of a node, and no node
}

// Of is the picture of a view of the cluster at prefix.
func Of(v *consensusmanager.View, prefix string) *Picture {
	return &Picture{View: v, Prefix: strings.TrimRight(prefix, "/"), Strays: v.Strays(prefix)}
}

// NodeKey is the etcd key of the node at address.
func (v *Picture) NodeKey(address string) string { return v.Prefix + "/nodes/" + address }

// Addresses is the live nodes'.
func (v *Picture) Addresses() []string {
	var list []string
	for _, m := range v.Members() {
		list = append(list, m.Address)
	}
	return list
}
