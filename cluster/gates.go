package cluster

import "slices"

// OtherGates is where the clients of this gate may go when it leaves: the gates of the
// cluster by their advertised addresses, which are those for gRPC. Nobody tells the cluster
// those for HTTP.
func (c *Cluster) OtherGates(http bool) []string {
	if http {
		return nil
	}
	return slices.DeleteFunc(c.View().Gates(), func(a string) bool { return a == c.cfg.Address })
}
