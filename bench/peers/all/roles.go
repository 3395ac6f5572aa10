package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/bench/load/child"
	"github.com/xiaonanln/goverse/bench/load/fleet"
	"github.com/xiaonanln/goverse/bench/load/meter"
	"github.com/xiaonanln/goverse/bench/peers/peer"
)

// size is how many bytes a message carries: 62 as protobuf encodes it.
const size = 60

// The processes: one that serves, one that calls it, one that calls its own objects. A
// role is one of these and a peer's name.
const (
	serveRole = "serve:"
	farRole   = "far:"
	nearRole  = "near:"
)

// serve is the life of a child.
func serve(role string) error {
	if run := fleet.Roles[role]; run != nil {
		return fleet.Serve(run)
	}
	kind, name, _ := strings.Cut(role, ":")
	p, ok := peer.Find(name)
	if !ok {
		return fmt.Errorf("there is no role %q", role)
	}
	switch kind + ":" {
	case serveRole:
		return fleet.Serve(p.Serve)
	case farRole:
		return serveFar(p)
	case nearRole:
		return child.Serve(untilDone, func(ctx context.Context, line string) string {
			return answer(line, func(q nearQuestion) (nearAnswer, error) { return measureNear(ctx, p, q) })
		})
	default:
		return fmt.Errorf("there is no role %q", role)
	}
}

// untilDone serves nothing at an address.
func untilDone(ctx context.Context, ready func(string)) error {
	ready("")
	<-ctx.Done()
	return nil
}

// answer does what a line asks for, both as JSON.
func answer[Q, A any](line string, do func(Q) (A, error)) string {
	var reply struct {
		Answer A
		Error  string
	}
	var q Q
	err := json.Unmarshal([]byte(line), &q)
	if err == nil {
		reply.Answer, err = do(q)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	text, err := json.Marshal(reply)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// ask is answer's other end.
func ask[A any](ctx context.Context, p *child.Process, question any) (a A, err error) {
	text, err := json.Marshal(question)
	if err != nil {
		return a, err
	}
	line, err := p.Ask(ctx, string(text))
	if err != nil {
		return a, err
	}
	var reply struct {
		Answer A
		Error  string
	}
	if err := json.Unmarshal([]byte(line), &reply); err != nil {
		return a, fmt.Errorf("%w: %s", err, line)
	}
	if reply.Error != "" {
		return a, errors.New(reply.Error)
	}
	return reply.Answer, nil
}

// farQuestion asks for a closed loop of calls to another process.
type farQuestion struct {
	Callers int
	Warmup  time.Duration
	Window  time.Duration
}

// farAnswer is what came of it. Calls that failed are not among Calls.
type farAnswer struct {
	Calls    int
	Rate     float64 // calls a second
	P50, P99 time.Duration
	CPU      time.Duration // processor time of a call, of all processes together
	Failed   int
	Failure  string // of the first
}

// caller is a process that calls, with those that it calls.
type caller struct {
	far      peer.Far
	children []*child.Process
}

// serveFar starts the process that serves, and calls it as it is told.
func serveFar(p peer.Peer) error {
	dialed := make(chan *caller, 1)
	return child.Serve(func(ctx context.Context, ready func(string)) (err error) {
		c := &caller{}
		var address string
		if p.Serve != nil {
			server, err := child.Start(ctx, serveRole+p.Name)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, server.End()) }()
			c.children, address = append(c.children, server), server.Address
		}
		if c.far, err = p.Dial(ctx, address); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.far.Close()) }()
		if f, ok := c.far.(interface{ Processes() []*child.Process }); ok {
			c.children = append(c.children, f.Processes()...)
		}
		dialed <- c
		return untilDone(ctx, ready)
	}, func(ctx context.Context, line string) string {
		c := <-dialed // it is there: nobody asks before Serve is ready
		dialed <- c
		return answer(line, func(q farQuestion) (farAnswer, error) { return c.measure(ctx, q) })
	})
}

// measure makes the calls. It is an error if none is answered.
func (c *caller) measure(ctx context.Context, q farQuestion) (a farAnswer, err error) {
	work := func(ctx context.Context, caller, n int) error {
		question := meter.Question(size, caller, n)
		reply, err := c.far.Say(ctx, (caller+n*31)%peer.Objects, question)
		if err != nil {
			return err
		}
		return meter.Check(question, reply)
	}
	load := meter.Load{Callers: q.Callers, Window: q.Warmup}
	if _, err := load.Run(ctx, work); err != nil {
		return a, err
	}
	load.Window = q.Window
	before, err := c.used(ctx)
	if err != nil {
		return a, err
	}
	s, err := load.Run(ctx, work)
	if err != nil {
		return a, err
	}
	after, err := c.used(ctx)
	if err != nil {
		return a, err
	}
	n := s.Latency.Count()
	if n == 0 {
		return a, errors.Join(errors.New("no call was answered"), s.Failure)
	}
	a = farAnswer{Calls: n, Rate: s.Rate(), P50: s.Latency.Quantile(0.5), P99: s.Latency.Quantile(0.99), CPU: (after - before) / time.Duration(n), Failed: s.Failed}
	if s.Failure != nil {
		a.Failure = s.Failure.Error()
	}
	return a, nil
}

// used is the processor time of all processes so far.
func (c *caller) used(ctx context.Context) (time.Duration, error) {
	sum := meter.Used()
	for _, p := range c.children {
		text, err := p.Ask(ctx, "used")
		if err != nil {
			return 0, err
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// nearQuestion asks for calls within the process.
type nearQuestion struct {
	Objects int // to be made
	Window  time.Duration
}

// nearAnswer is what came of it.
type nearAnswer struct {
	Calls  int
	Call   float64 // ns
	Allocs float64 // for each call
	Made   int
	Make   float64 // ns of an object's first call
	Bytes  float64 // of memory that an idle object holds
}

// warmObjects are made before anything is measured, and called later.
const warmObjects = 16

func measureNear(ctx context.Context, p peer.Peer, q nearQuestion) (a nearAnswer, err error) {
	near, err := p.Open(ctx)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, near.Close()) }()
	near.Prepare(warmObjects + q.Objects)
	if _, err := makeObjects(ctx, near, 0, warmObjects); err != nil {
		return a, err
	}
	before := memory()
	took, err := makeObjects(ctx, near, warmObjects, q.Objects)
	if err != nil {
		return a, err
	}
	a.Made, a.Make = q.Objects, float64(took)/float64(q.Objects)
	a.Bytes = (float64(memory()) - float64(before)) / float64(q.Objects)
	return a, a.call(ctx, near, q.Window)
}

// makeObjects makes n objects, each of which answers once.
func makeObjects(ctx context.Context, near peer.Near, first, n int) (time.Duration, error) {
	m := meter.Question(size, 0, 0)
	began := time.Now()
	for i := first; i < first+n; i++ {
		reply, err := near.Make(ctx, i, m)
		if err == nil {
			err = meter.Check(m, reply)
		}
		if err != nil {
			return 0, fmt.Errorf("object %d: %w", i, err)
		}
	}
	return time.Since(began), ctx.Err()
}

// call calls a few objects in turn, one call after the other. The message is the same
// each time: only the calls allocate.
func (a *nearAnswer) call(ctx context.Context, near peer.Near, window time.Duration) error {
	m := meter.Question(size, 0, 0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	for time.Since(began) < window && ctx.Err() == nil {
		for i := range 1000 {
			reply, err := near.Say(ctx, i%warmObjects, m)
			if err == nil {
				err = meter.Check(m, reply)
			}
			if err != nil {
				return err
			}
			a.Calls++
		}
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	a.Call = float64(took) / float64(a.Calls)
	a.Allocs = float64(after.Mallocs-before.Mallocs) / float64(a.Calls)
	return ctx.Err()
}

// memory is what this process's objects and goroutines hold.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
