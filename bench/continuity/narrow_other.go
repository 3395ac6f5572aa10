//go:build !linux

package main

import "syscall"

// narrow leaves the socket as it is: here it takes longer until its peer notices.
func narrow(_, _ string, _ syscall.RawConn) error { return nil }
