//go:build !unix

package child

import "syscall"

// apart leaves the child where it is: here it hears a Ctrl-C too.
func apart() *syscall.SysProcAttr { return nil }
