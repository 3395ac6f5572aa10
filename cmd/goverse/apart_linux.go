package main

import "syscall"

// apart keeps a terminal's Ctrl-C from the process: dev tells it when to end, and so does
// the kernel if dev dies.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
