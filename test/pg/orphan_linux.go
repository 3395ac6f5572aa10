package pg

import "syscall"

// dieWithUs has the server stop at once when this process dies.
func dieWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT} }
