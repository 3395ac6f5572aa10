package bank

import (
	"os/exec"
	"syscall"
)

// dieWithUs ends a child when the test binary dies without having cleaned up.
func dieWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
