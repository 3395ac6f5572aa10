package gateserver

import (
	"net"
	"syscall"
)

// keepLittleUnsent bounds what the kernel holds of a connection beyond what is under way,
// so that a write that is not done shows a client that takes nothing. The kernel may know
// no such bound; then slow clients are judged more coarsely.
func keepLittleUnsent(conn net.Conn) {
	const tcpNotSentLowAt, bytes = 25, 128 << 10
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowAt, bytes) })
		}
	}
}
