//go:build unix && !linux

package e2e

import (
	"os/exec"
	"testing"
)

// Network namespaces are Linux's: elsewhere there is no world, and these are never
// called.
type (
	world struct{}
	host  struct{ address string }
)

const workshopVariable = "GOVERSE_E2E_WORKSHOP"

func inWorld(t *testing.T, necessary bool, test func(w *world)) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs real processes: not with -short")
	}
	t.Parallel()
	if necessary {
		t.Skip("NOT TESTED: cuts between single processes. They need the network namespaces of Linux.")
	}
	t.Log("NOT TESTED: cuts between single processes, which need the network namespaces of Linux; everything is on loopback.")
	test(nil)
}

func (w *world) host() *host              { return nil }
func (h *host) start(cmd *exec.Cmd) error { return cmd.Start() }
func (h *host) cutTo(others ...*host)     {}
func (h *host) healTo(others ...*host)    {}
func (h *host) unplug()                   {}
func (h *host) plug()                     {}
