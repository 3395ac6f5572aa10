//go:build !linux

package pg

import "syscall"

// dieWithUs cannot do more here: Stop has to be called.
func dieWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
