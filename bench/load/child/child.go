// Package child runs the processes of a benchmark: the program starts itself again, with
// a role in its environment. A child says its address once it serves, answers each line
// on its input with one line, and ends when its input does, so also when its parent dies.
package child

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// variable names the role, in a child's environment.
const variable = "GOVERSE_BENCH_ROLE"

// patience is for how long a child may take to end by itself; then it is killed.
const patience = time.Minute

// Role is what this process was started for; empty in a program that a person started.
func Role() string { return os.Getenv(variable) }

// Process is a child, as its parent sees it. Its methods may be called concurrently.
type Process struct {
	Role    string
	Address string // where it serves

	cmd    *exec.Cmd
	in     io.WriteCloser
	errors bytes.Buffer  // to be read once it has ended
	ended  chan struct{} // closed then
	err    error         // what it ended with
	grace  sync.Once     // it is told to end

	pipe *os.File // what out reads

	mu  sync.Mutex // one question at a time
	out *bufio.Reader
}

// Start starts a child and waits until it serves. env is added to its environment, as
// "NAME=value".
func Start(ctx context.Context, role string, env ...string) (*Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return StartOf(ctx, program, role, env...)
}

// StartOf is Start for another build of this program.
func StartOf(ctx context.Context, program, role string, env ...string) (p *Process, err error) {
	p = &Process{Role: role, cmd: exec.Command(program), ended: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), variable+"="+role), env...)
	p.cmd.Stderr = &p.errors
	p.cmd.SysProcAttr = apart()
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, hers, err := os.Pipe() // not StdoutPipe, which Wait would close under a reader
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.pipe, p.out = hers, out, bufio.NewReader(out)
	err = p.cmd.Start()
	hers.Close()
	if err != nil {
		out.Close()
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	p.Address, err = p.line(ctx)
	if err != nil {
		return nil, errors.Join(err, p.End())
	}
	return p, nil
}

// Ask sends the child a line and returns the line that it answers.
func (p *Process) Ask(ctx context.Context, line string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		return "", cmp.Or(ctx.Err(), p.gone())
	}
	return p.line(ctx)
}

// line is what the child says next. When ctx ends first, the child is let go.
func (p *Process) line(ctx context.Context) (string, error) {
	stop := context.AfterFunc(ctx, p.release)
	text, err := p.out.ReadString('\n')
	switch {
	case !stop(): // it was let go, whatever it has said
		return "", ctx.Err()
	case err != nil:
		return "", p.gone()
	default:
		return strings.TrimSpace(text), nil
	}
}

// release lets the child end, which it does by itself or is made to.
func (p *Process) release() {
	p.in.Close()
	p.grace.Do(func() {
		timer := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
		go func() {
			<-p.ended
			timer.Stop()
		}()
	})
}

// gone is the error of a child that is no longer there.
func (p *Process) gone() error { return fmt.Errorf("the %s process has ended", p.Role) }

// Signal sends the child a signal. One that was stopped does not answer until it goes on.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// PID is the child's number in the operating system.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed once the child has.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// End lets the child go and waits until it has. The error says what it died of, with
// what it had written to its standard error. It may be called again.
func (p *Process) End() error {
	p.release()
	<-p.ended
	p.pipe.Close()
	if p.err != nil {
		return fmt.Errorf("the %s process: %w\n%s", p.Role, p.err, p.errors.String())
	}
	return nil
}

// Serve is the life of a child. serve runs until its context ends, and calls ready once,
// with the address where it serves; answer says what each line of the input is answered
// with, and is given up when its context ends. Standard output belongs to Serve.
func Serve(serve func(ctx context.Context, ready func(address string)) error, answer func(ctx context.Context, line string) string) error {
	return Profiled(Role(), func() error { return live(serve, answer) })
}

func live(serve func(ctx context.Context, ready func(address string)) error, answer func(ctx context.Context, line string) string) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	lines := make(chan string)
	go func() { // it ends with the process, as the end of the input ends that
		defer stop()
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
	}()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for {
			select {
			case line := <-lines:
				fmt.Println(answer(ctx, line))
			case <-ctx.Done():
				return
			}
		}
	}()
	err := serve(ctx, func(address string) { fmt.Println(address) })
	stop()
	<-answered
	return err
}
