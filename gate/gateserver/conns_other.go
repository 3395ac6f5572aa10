//go:build !linux

package gateserver

import "net"

// keepLittleUnsent is for Linux.
func keepLittleUnsent(net.Conn) {}
