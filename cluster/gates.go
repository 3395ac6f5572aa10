package cluster

import (
	"maps"
	"slices"
)

// OtherGates is where the clients of this gate may go when it leaves: the gates of the
// cluster by their advertised addresses, which are those for gRPC, or by the roots of their
// ports for HTTP, of those that have told them.
func (c *Cluster) OtherGates(http bool) []string {
	if !http {
		return slices.DeleteFunc(c.View().Gates(), func(a string) bool { return a == c.cfg.Address })
	}
	roots := c.View().HTTPGates()
	delete(roots, c.cfg.Address)
	return slices.Compact(slices.Sorted(maps.Values(roots)))
}
