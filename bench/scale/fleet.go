package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/client/goverseclient"
	"github.com/xiaonanln/goverse/cluster/etcdmanager/embedded"
)

// patience is for how long a cluster may take to form and to answer.
const patience = time.Minute

// measure forms a cluster of n nodes, warms it up, and counts calls for a while.
func measure(ctx context.Context, o options, n int) (s sample, err error) {
	dir, err := os.MkdirTemp("", "goverse-scale-")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	etcd, err := embedded.Start(ctx, embedded.Config{Dir: dir})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, etcd.Close()) }()
	f := &fleet{etcd: etcd.Endpoint(), size: n}
	defer func() { err = errors.Join(err, f.end()) }()
	for range n {
		if _, err := f.start("node"); err != nil {
			return s, err
		}
	}
	gate, err := f.start("gate")
	if err != nil {
		return s, err
	}
	client, err := goverseclient.NewClient([]string{gate.address})
	if err != nil {
		return s, err
	}
	defer client.Close()
	w := &work{client: client, objects: o.objects, callers: o.callers}
	if err := w.warm(ctx); err != nil {
		return s, err
	}
	return f.watch(ctx, func() (int, time.Duration, error) { return w.load(ctx, o.window) })
}

// fleet is the processes of one cluster: nodes, and a gate behind them.
type fleet struct {
	etcd      string
	size      int
	processes []*process
}

// process is one of them. It says its address once it listens, answers a line on its
// input with the processor time that it has used, and ends when its input does.
type process struct {
	role    string
	address string
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	errors  bytes.Buffer
}

func (f *fleet) start(role string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{role: role, cmd: exec.Command(program)}
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role, etcdEnv+"="+f.etcd, sizeEnv+"="+strconv.Itoa(f.size))
	p.cmd.Stderr = &p.errors
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	f.processes = append(f.processes, p)
	p.address, err = p.line()
	return p, err
}

// line is what the process says next.
func (p *process) line() (string, error) {
	text, err := p.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the %s ended", p.role)
	}
	return strings.TrimSpace(text), nil
}

// used is the processor time that the process has used so far.
func (p *process) used() (time.Duration, error) {
	if _, err := fmt.Fprintln(p.in, "used"); err != nil {
		return 0, fmt.Errorf("the %s ended", p.role)
	}
	text, err := p.line()
	if err != nil {
		return 0, err
	}
	return time.ParseDuration(text)
}

// usage is what each process has used so far.
func (f *fleet) usage() ([]time.Duration, error) {
	list := make([]time.Duration, len(f.processes))
	for i, p := range f.processes {
		var err error
		if list[i], err = p.used(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// watch says what the processes used while load ran.
func (f *fleet) watch(ctx context.Context, load func() (int, time.Duration, error)) (s sample, err error) {
	before, err := f.usage()
	if err != nil {
		return s, err
	}
	if s.calls, s.took, err = load(); err != nil {
		return s, err
	}
	after, err := f.usage()
	if err != nil {
		return s, err
	}
	for i, p := range f.processes {
		if cpu := after[i] - before[i]; p.role == "gate" {
			s.gate = cpu
		} else {
			s.nodes = append(s.nodes, cpu)
		}
	}
	return s, ctx.Err()
}

// end lets every process go, the gate first, and says what one of them died of.
func (f *fleet) end() error {
	var problems []error
	for i := len(f.processes) - 1; i >= 0; i-- {
		p := f.processes[i]
		p.in.Close()
		if err := p.cmd.Wait(); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w\n%s", p.role, err, p.errors.String()))
		}
	}
	return errors.Join(problems...)
}

// work is calls to objects, evenly spread.
type work struct {
	client  *goverseclient.Client
	objects int
	callers int
}

func (w *work) call(ctx context.Context, object int) error {
	_, err := w.client.CallObject(ctx, "Echo", strconv.Itoa(object), "Say", wrapperspb.Int64(1))
	return err
}

// warm calls every object once, which waits for the cluster to be there.
func (w *work) warm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.client.Connect(ctx); err != nil {
		return err
	}
	var next atomic.Int64
	return w.each(func() error {
		for i := next.Add(1); i <= int64(w.objects); i = next.Add(1) {
			if err := w.call(ctx, int(i-1)); err != nil {
				return err
			}
		}
		return nil
	})
}

// load calls for as long as window lasts. A call that fails ends it.
func (w *work) load(ctx context.Context, window time.Duration) (calls int, took time.Duration, err error) {
	var done atomic.Int64
	began := time.Now()
	err = w.each(func() error {
		for time.Since(began) < window {
			if err := w.call(ctx, rand.IntN(w.objects)); err != nil {
				return err
			}
			done.Add(1)
		}
		return nil
	})
	return int(done.Load()), time.Since(began), err
}

// each runs f in every caller and returns what failed first.
func (w *work) each(f func() error) error {
	failed := make(chan error, w.callers)
	var callers sync.WaitGroup
	for range w.callers {
		callers.Go(func() {
			if err := f(); err != nil {
				failed <- err
			}
		})
	}
	callers.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}
