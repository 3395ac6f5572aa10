//go:build unix

package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/test/logbook"
	"github.com/xiaonanln/goverse/test/spawn"
)

// site is where a program runs: its ports and its data outlive a process.
type site struct {
	binary           string
	http, grpc, node string // addresses
	dir              string // the process's working directory
	data             string
	host             *host    // where it runs; nil is here
	env              []string // more of it
}

func newSite(t *testing.T, binary func() (string, error)) *site {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs real processes: not with -short")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return &site{binary: path, http: spawn.FreeAddress(t), grpc: spawn.FreeAddress(t), node: spawn.FreeAddress(t), dir: dir, data: filepath.Join(dir, "data")}
}

func (s *site) flags() []string {
	return []string{"--http-listen", s.http, "--gate-listen", s.grpc, "--listen", s.node, "--data-dir", s.data}
}

func (s *site) url(path string) string { return "http://" + s.http + path }

// start runs the program at its site and returns when it answers calls.
func (s *site) start(t *testing.T, more ...string) *program {
	t.Helper()
	p := s.launch(t, append(s.flags(), more...)...)
	if !p.says("Ctrl-C stops it.", 30*time.Second) {
		t.Fatalf("%s is not ready:\n%s", filepath.Base(s.binary), p.output())
	}
	return p
}

// launch runs the program with args.
func (s *site) launch(t *testing.T, args ...string) *program {
	t.Helper()
	cmd := exec.Command(s.binary, args...)
	cmd.Dir = s.dir
	cmd.Env = append(append(os.Environ(), "GORACE=halt_on_error=1 exitcode=66"), s.env...)
	cmd.SysProcAttr = spawn.DiesWithUs(syscall.SIGKILL)
	p := &program{cmd: cmd, heard: make(chan struct{}), ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	cmd.WaitDelay = 5 * time.Second
	start := cmd.Start
	if s.host != nil {
		start = func() error { return s.host.start(cmd) }
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	p.begun = time.Now()
	go func() {
		p.err = cmd.Wait()
		p.died = logbook.Now()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if out := p.output(); strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic:") || strings.Contains(out, "fatal error:") {
			t.Errorf("the process broke down:\n%s", out)
		} else if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(s.binary), out)
		}
	})
	return p
}

// program is one process.
type program struct {
	cmd   *exec.Cmd
	begun time.Time
	ended chan struct{} // closed when it is gone; then err and died are set
	err   error
	died  logbook.Moment // or a little before

	mu    sync.Mutex
	out   bytes.Buffer
	heard chan struct{} // closed and replaced when it has said something
}

// Write takes what the process says.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.heard)
	p.heard = make(chan struct{})
	return p.out.Write(b)
}

func (p *program) output() string {
	text, _ := p.listen()
	return text
}

func (p *program) listen() (string, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String(), p.heard
}

// says waits until the process has said text. It is false when the process ends
// before, or time is up.
func (p *program) says(text string, patience time.Duration) bool {
	deadline := time.After(patience)
	for {
		said, heard := p.listen()
		if strings.Contains(said, text) {
			return true
		}
		select {
		case <-heard:
		case <-p.ended:
			return strings.Contains(p.output(), text)
		case <-deadline:
			return false
		}
	}
}

// kill is kill -9, and returns when the process is gone.
func (p *program) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

func (p *program) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(err) // the process is ours: it can be signalled
	}
}

// exit waits for the end of the process and returns its exit code, and how long it
// took. A process that does not end is killed; its code is -1.
func (p *program) exit(patience time.Duration) (int, time.Duration) {
	start := time.Now()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.signal(syscall.SIGQUIT) // its goroutines tell why
		select {
		case <-p.ended:
		case <-time.After(2 * time.Second):
		}
		p.kill()
		return -1, time.Since(start)
	}
	return p.cmd.ProcessState.ExitCode(), time.Since(start)
}

func (p *program) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}
