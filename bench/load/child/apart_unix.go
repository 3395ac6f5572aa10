//go:build unix

package child

import "syscall"

// apart keeps a Ctrl-C on the terminal from the child: its parent ends it.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
