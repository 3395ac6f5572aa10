// Package spawn has what tests need that start processes.
package spawn

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// FreeAddress is one on loopback with a port that the system does not hand out by
// itself, so that it is still free after a kill.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no free port between 20000 and 32000")
	return ""
}
