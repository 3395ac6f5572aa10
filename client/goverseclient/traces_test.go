package goverseclient

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/fault"
)

// parents notes which places in traces calls tell a gate.
type parents struct {
	mu   sync.Mutex
	list []string
}

func (p *parents) add(parent string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, parent)
}

func (p *parents) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.list
	p.list = nil
	return list
}

// Each call has one span, below which the gate puts its own, also where it took several
// attempts; a call that is not kept tells the gate nothing.
func TestACallHasASpan(t *testing.T) { bothWays(t, testACallHasASpan) }

func testACallHasASpan(t *testing.T) {
	told := new(parents)
	var refused atomic.Int64
	g := (&gate{
		call: func(ctx context.Context, r *gate_pb.CallObjectRequest) (*anypb.Any, error) {
			if m, _ := metadata.FromIncomingContext(ctx); isUnary(t) {
				told.add(append(m.Get("traceparent"), "")[0])
			}
			switch {
			case r.Method == "Fail":
				return nil, fault.New(fault.Forbidden, "secret words")
			case refused.Add(-1) == 0:
				return nil, fault.New(fault.NotReady, "not yet")
			}
			return r.Request, nil
		},
		reliable: func(*gate_pb.ReliableCallObjectRequest) (*gate_pb.ReliableCallObjectResponse, error) {
			return &gate_pb.ReliableCallObjectResponse{Status: "FAILED", Error: "secret words"}, nil
		},
	}).serve(t)
	for _, sampled := range []bool{true, false} {
		kept := tracetest.NewSpanRecorder()
		sampler := sdktrace.NeverSample()
		if sampled {
			sampler = sdktrace.AlwaysSample()
		}
		p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithSpanProcessor(kept))
		c := connect(t, []string{g.address}, WithTracerProvider(p))
		refused.Store(1)
		if err := say(soon(t), c, "x"); err != nil {
			t.Fatal(err)
		}
		_, err := c.CallObject(soon(t), "Echo", "a", "Fail", nil)
		if OutcomeOf(err) != NotExecuted {
			t.Error(err)
		}
		_, err = sayOnce(soon(t), c, "an-id")
		if OutcomeOf(err) != Executed {
			t.Error(err)
		}
		spans, parents := kept.Ended(), told.take()
		if !sampled {
			for _, parent := range parents {
				if parent != "" {
					t.Errorf("a call that is not kept tells the gate %q", parent)
				}
			}
			if len(spans) > 0 {
				t.Errorf("%d spans of calls that are not kept", len(spans))
			}
			continue
		}
		want := []struct {
			name string
			code codes.Code
			says string
		}{{"call Echo.Say", codes.Unset, ""}, {"call CallObject", codes.Error, "forbidden"}, {"call Echo.Say", codes.Error, "failed"}}
		if len(spans) != len(want) {
			t.Fatalf("%d spans", len(spans))
		}
		for i, w := range want {
			if s := spans[i]; s.Name() != w.name || s.Status().Code != w.code || s.Status().Description != w.says {
				t.Errorf("span %d is %q and says %v", i, s.Name(), s.Status())
			}
		}
		at := spans[0].SpanContext()
		if isUnary(t) && (len(parents) != 3 || parents[0] != parents[1] || parents[0] != "00-"+at.TraceID().String()+"-"+at.SpanID().String()+"-01") {
			t.Errorf("the gate heard %q of %v", parents, at)
		}
	}
}

// What a program's own headers say of its trace counts.
func TestAProgramsOwnHeadersCount(t *testing.T) {
	told := new(parents)
	g := (&gate{call: func(ctx context.Context, r *gate_pb.CallObjectRequest) (*anypb.Any, error) {
		m, _ := metadata.FromIncomingContext(ctx)
		for _, parent := range m.Get("traceparent") {
			told.add(parent)
		}
		return r.Request, nil
	}}).serve(t)
	p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()))
	c := connect(t, []string{g.address}, WithTracerProvider(p))
	if err := say(metadata.AppendToOutgoingContext(soon(t), "traceparent", "mine"), c, "x"); err != nil {
		t.Fatal(err)
	}
	if got := told.take(); len(got) != 1 || got[0] != "mine" {
		t.Errorf("the gate heard %q", got)
	}
}
