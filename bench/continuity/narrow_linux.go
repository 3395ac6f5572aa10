package main

import (
	"errors"
	"syscall"
)

// narrow has a socket take little before its peer notices that nobody reads: small windows,
// and segments so small that the peer does not buffer megabytes for them.
func narrow(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = errors.Join(
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096),
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536),
		)
	})
	return errors.Join(err, failed)
}
