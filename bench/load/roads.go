package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/bench/load/child"
	"github.com/xiaonanln/goverse/bench/load/fleet"
	"github.com/xiaonanln/goverse/bench/load/meter"
	"github.com/xiaonanln/goverse/bench/load/plain"
	"github.com/xiaonanln/goverse/object"
)

// services is what is called, in its processes.
type services struct {
	options options
	grpc    *child.Process // nil: not asked for
	plain   *plain.Client
	fleet   *fleet.Fleet // nil: not asked for
	ids     []string     // of the objects that are called
	loads   int          // how many there were, so that each has new objects where that is wanted
}

// start starts what the roads need.
func start(ctx context.Context, o options) (*services, error) {
	s := &services{options: o}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *services) begin(ctx context.Context) (err error) {
	asked := func(road string) bool { return slices.Contains(s.options.roads, road) }
	if asked(roadGRPC) {
		if s.grpc, err = child.Start(ctx, "grpc"); err != nil {
			return err
		}
		if s.plain, err = plain.Dial(s.grpc.Address); err != nil {
			return err
		}
	}
	if !asked(roadNode) && !asked(roadGate) {
		return nil
	}
	if s.fleet, err = fleet.Start(ctx, asked(roadGate)); err != nil {
		return err
	}
	s.ids = s.fleet.IDs(s.options.objects, true)
	for _, id := range s.ids { // they come to life before anything is measured
		if _, err := fleet.NewRef(s.fleet.Node(), fleet.Lasting, id).Say(ctx, meter.Question(s.options.size, 0, 0)); err != nil {
			return err
		}
	}
	return nil
}

func (s *services) close() error {
	var problems []error
	if s.plain != nil {
		problems = append(problems, s.plain.Close())
	}
	if s.grpc != nil {
		problems = append(problems, s.grpc.End())
	}
	if s.fleet != nil {
		problems = append(problems, s.fleet.Close())
	}
	return errors.Join(problems...)
}

// work is a call on a road.
func (s *services) work(road string) meter.Work {
	say := map[string]func(ctx context.Context, caller, n int, q *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error){
		roadGRPC: func(ctx context.Context, _, _ int, q *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
			return s.plain.Say(ctx, q)
		},
		roadNode: func(ctx context.Context, caller, n int, q *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
			return s.object(s.fleet.Node(), caller, n).Say(ctx, q)
		},
		roadGate: func(ctx context.Context, caller, n int, q *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
			return s.object(s.fleet.Gate(), caller, n).Say(ctx, q)
		},
	}[road]
	return func(ctx context.Context, caller, n int) error {
		question := meter.Question(s.options.size, caller, n)
		reply, err := say(ctx, caller, n, question)
		if err != nil {
			return err
		}
		return meter.Check(question, reply)
	}
}

// object is whom a call goes to. Callers begin at different objects, so that they do
// not queue for the same one, unless there are fewer objects than callers.
func (s *services) object(way object.Caller, caller, n int) fleet.Ref {
	if len(s.ids) > 0 {
		return fleet.NewRef(way, fleet.Lasting, s.ids[(caller*7919+n)%len(s.ids)])
	}
	prefix := fmt.Sprintf("%d-%d-%d-", s.loads, caller, n)
	for i := 0; ; i++ {
		if id := prefix + strconv.Itoa(i); s.fleet.Remote(id) {
			return fleet.NewRef(way, fleet.Fleeting, id)
		}
	}
}

// measurement is one figure of the table, once.
type measurement struct {
	meter.Sample
	used time.Duration // processor time of all processes
}

// measure warms a road up and measures it.
func (s *services) measure(ctx context.Context, road string, callers int) (m measurement, err error) {
	load := meter.Load{Callers: callers, Window: s.options.warmup, Rate: s.options.rate}
	if s.loads++; s.options.warmup > 0 {
		if _, err := load.Run(ctx, s.work(road)); err != nil {
			return m, err
		}
	}
	s.loads++
	before, err := s.used(ctx)
	if err != nil {
		return m, err
	}
	load.Window = s.options.window
	if m.Sample, err = load.Run(ctx, s.work(road)); err != nil {
		return m, err
	}
	after, err := s.used(ctx)
	if err != nil {
		return m, err
	}
	m.used = after - before
	if m.Latency.Count() == 0 {
		return m, errors.Join(errors.New("no call was answered"), m.Failure)
	}
	return m, nil
}

// used is the processor time of all processes so far.
func (s *services) used(ctx context.Context) (time.Duration, error) {
	sum := meter.Used()
	var children []*child.Process
	if s.grpc != nil {
		children = append(children, s.grpc)
	}
	if s.fleet != nil {
		children = append(children, s.fleet.Processes()...)
	}
	for _, p := range children {
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

// perCall is the processor time of a call in microseconds.
func (m measurement) perCall() float64 { return meter.Micros(m.used) / float64(m.Latency.Count()) }

// quantile is one of its latencies in microseconds.
func (m measurement) quantile(q float64) float64 { return meter.Micros(m.Latency.Quantile(q)) }

// String is the measurement in a line.
func (m measurement) String() string {
	line := fmt.Sprintf("%s calls/s, p50 %.0f µs, p99 %.0f µs", meter.Figure(m.Rate()), m.quantile(0.5), m.quantile(0.99))
	if m.Failed > 0 {
		line += fmt.Sprintf(", %d failed: %v", m.Failed, m.Failure)
	}
	return line
}
