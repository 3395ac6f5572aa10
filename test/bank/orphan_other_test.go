//go:build unix && !linux

package bank

import "os/exec"

func dieWithUs(*exec.Cmd) {}
