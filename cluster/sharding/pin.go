package sharding

import (
	"net"
	"strconv"
	"strings"
)

// PinnedNode is the node that an id of the form host:port/name names. Objects with
// such an id live on that node alone, are volatile and belong to no shard.
func PinnedNode(id string) (address string, ok bool) {
	address, name, ok := strings.Cut(id, "/")
	if !ok || name == "" || !strings.Contains(address, ":") {
		return "", false
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return "", false
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", false
	}
	return address, true
}
