package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// house is one process of a program under development, and where it is. Its methods are
// for one goroutine; ended may be waited for by all.
type house struct {
	name             string
	node, http, grpc string // addresses
	cmd              *exec.Cmd
	ended            chan struct{} // closed when the process is gone
	asked            bool          // it was told to end
}

// house is the i-th process's place. Its ports are the same after a change.
func (t *town) house(i int) *house {
	at := func(port int) string { return net.JoinHostPort(t.flags.host, strconv.Itoa(port+i)) }
	return &house{name: fmt.Sprintf("node%d", i+1), node: at(t.flags.http - 1000), http: at(t.flags.http), grpc: at(t.flags.http + 1000)}
}

// free is an address that nobody listens on.
func (t *town) free() string {
	l, err := net.Listen("tcp", net.JoinHostPort(t.flags.host, "0"))
	if err != nil {
		return net.JoinHostPort(t.flags.host, "0") // the process will say what is wrong
	}
	defer l.Close()
	return l.Addr().String()
}

func (h *house) start(binary string, args []string, out *chorus) error {
	h.cmd = exec.Command(binary, args...)
	h.cmd.SysProcAttr = apart()
	voice := out.voice(h.name)
	h.cmd.Stdout, h.cmd.Stderr = io.Discard, voice // it says where it is, as dev does
	h.cmd.WaitDelay = time.Second
	h.ended, h.asked = make(chan struct{}), false
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // which the process does not outlive, where the system sees to that
		defer runtime.UnlockOSThread()
		err := h.cmd.Start()
		started <- err
		if err == nil {
			_ = h.cmd.Wait() // died looks at its state
			voice.flush()
			close(h.ended)
		}
	}()
	if err := <-started; err != nil {
		h.cmd = nil
		return fmt.Errorf("%s: %w", h.name, err)
	}
	return nil
}

// died is that the process has ended though nobody told it to.
func (h *house) died() error {
	select {
	case <-h.ended:
	default:
		return nil
	}
	if h.asked {
		return nil
	}
	return fmt.Errorf("%s has ended by itself (%s); what it said last is above", h.name, h.cmd.ProcessState)
}

// signal tells the process to end: it drains.
func (h *house) signal() {
	if h.cmd == nil || h.asked {
		return
	}
	h.asked = true
	if h.cmd.Process.Signal(syscall.SIGTERM) != nil {
		_ = h.cmd.Process.Kill() // a system without signals, or it is gone
	}
}

// close ends the process. It returns when it is gone.
func (h *house) close() {
	if h.cmd == nil {
		return
	}
	h.signal()
	late := time.AfterFunc(endWithin, func() { _ = h.cmd.Process.Kill() })
	defer late.Stop()
	<-h.ended
}

// endWithin is when a process is killed that was told to end: later than it gives up itself.
const endWithin = 35 * time.Second

// chorus writes the lines of several processes, each behind its name, and no line into
// another. Its methods may be called concurrently.
type chorus struct {
	mu sync.Mutex // protects following field
	w  io.Writer
}

func newChorus(w io.Writer) *chorus { return &chorus{w: w} }

func (c *chorus) line(name, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Fprintf(c.w, "%-6s| %s\n", name, strings.TrimRight(line, "\n"))
	}
}

// voice is one process's way to write. It is for one goroutine.
func (c *chorus) voice(name string) *voice { return &voice{c: c, name: name} }

type voice struct {
	c    *chorus
	name string
	rest []byte // of a line that has not ended
}

const maxLine = 64 << 10

func (v *voice) Write(b []byte) (int, error) {
	v.rest = append(v.rest, b...)
	for {
		line, rest, ended := bytes.Cut(v.rest, []byte("\n"))
		if !ended && len(v.rest) <= maxLine {
			return len(b), nil
		}
		v.c.line(v.name, string(line))
		v.rest = rest
	}
}

func (v *voice) flush() {
	if len(v.rest) > 0 {
		v.c.line(v.name, string(v.rest))
		v.rest = nil
	}
}
