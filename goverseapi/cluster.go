package goverseapi

// NodeInfo is a node as this process sees it.
type NodeInfo struct {
	Address    string
	Configured bool // named in this process's configuration
	IsAlive    bool // registered with the cluster
	IsLeader   bool
}

// GateInfo is a gate as this process sees it.
type GateInfo struct {
	Address    string
	Configured bool
	IsAlive    bool
}

// ClusterReady yields true when the default server's cluster answers calls for the
// first time, and is closed behind it. Without a default server it never does.
func ClusterReady() <-chan bool {
	if s := std.server.Load(); s != nil {
		return s.ClusterReady()
	}
	return make(chan bool)
}

// GetNodesInfo lists the nodes of the default server's cluster by address; empty
// before it has joined.
func GetNodesInfo() map[string]NodeInfo {
	nodes := map[string]NodeInfo{}
	s := std.server.Load()
	if s == nil {
		return nodes
	}
	nodes[s.Address()] = NodeInfo{Address: s.Address(), Configured: true}
	c := s.Cluster()
	if c == nil {
		return nodes
	}
	view := c.View()
	for _, m := range view.Members() {
		nodes[m.Address] = NodeInfo{
			Address: m.Address, Configured: m.Address == s.Address(),
			IsAlive: true, IsLeader: m.Address == view.Leader.Address,
		}
	}
	return nodes
}

// GetGatesInfo lists the gates of the default server's cluster by address.
func GetGatesInfo() map[string]GateInfo {
	gates := map[string]GateInfo{}
	s := std.server.Load()
	if s == nil || s.Cluster() == nil {
		return gates
	}
	for _, address := range s.Cluster().View().Gates() {
		gates[address] = GateInfo{Address: address, IsAlive: true}
	}
	return gates
}
