//go:build unix && !linux

package main

import "syscall"

// apart keeps a terminal's Ctrl-C from the process: dev tells it when to end.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
