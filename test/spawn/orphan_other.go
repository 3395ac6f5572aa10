//go:build !linux

package spawn

import "syscall"

// DiesWithUs cannot do more here: who starts a child has to end it.
func DiesWithUs(syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
