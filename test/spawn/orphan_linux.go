package spawn

import "syscall"

// DiesWithUs gives a child the signal when this process dies without having cleaned up.
func DiesWithUs(signal syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: signal}
}
