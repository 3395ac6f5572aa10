package gateserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	gate_pb "github.com/xiaonanln/goverse/gate/proto"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

func TestInterceptorsOfAGateSeeTheCall(t *testing.T) {
	var seen []string
	named := func(name string) Interceptor {
		return func(ctx context.Context, call *object.CallInfo, req object.Payload, next Next) (object.Payload, error) {
			seen = append(seen, fmt.Sprintf("%s(%d %v.%s id=%q read=%v client=%v %q)", name, call.Op, call.Ref, call.Method, call.CallID, call.ReadOnly, call.Client, call.ClientID))
			reply, err := next(ctx, req)
			seen = append(seen, name)
			return reply, err
		}
	}
	s := start(t, newCluster(echo), func(c *GateServerConfig) { c.Interceptors = []Interceptor{named("first"), named("second")} })
	want := func(info string) {
		t.Helper()
		if got := strings.Join(seen, " "); got != "first("+info+") second("+info+") second first" {
			t.Errorf("seen: %s", got)
		}
		seen = nil
	}
	c := dial(t, s)
	id, _ := register(t, t.Context(), c)
	reply, err := c.CallObject(t.Context(), &gate_pb.CallObjectRequest{ClientId: id, Type: "Room", Id: "a", Method: "Join", Request: text(t, "x")})
	if err != nil || unpack(t, reply.Response) != "x" {
		t.Fatal(reply, err)
	}
	want(`0 Room/a.Join id="" read=false client=true "` + id + `"`)
	if _, err := c.ReliableCallObject(t.Context(), &gate_pb.ReliableCallObjectRequest{CallId: "once", Type: "Room", Id: "a", Method: "Join", Request: text(t, "x")}); err != nil {
		t.Fatal(err)
	}
	want(`0 Room/a.Join id="once" read=false client=true ""`)
	if r := request(t, s, "GET", "/api/v1/objects/Room/a/History?n=1", ""); r.status != http.StatusOK || r.body != `{"n":"1"}` {
		t.Error(r)
	}
	want(`0 Room/a.History id="" read=true client=true ""`)
	if r := request(t, s, "PUT", "/api/v1/objects/Room/a", ""); r.status != http.StatusCreated {
		t.Error(r)
	}
	want(`1 Room/a. id="" read=false client=true ""`)
	if r := request(t, s, "DELETE", "/api/v1/objects/Room/a", ""); r.status != http.StatusOK {
		t.Error(r)
	}
	want(`2 Room/a. id="" read=false client=true ""`)
}

// Each case is asked in both forms: JSON by HTTP, and an Any by gRPC.
func TestInterceptorsOfAGateReplace(t *testing.T) {
	nodeSays := fault.New(fault.NotFound, "no such object").On("CallObject", "Room/a.Join")
	lost := fault.New(fault.Indeterminate, "the answer was lost")
	for name, c := range map[string]struct {
		do      Interceptor
		answer  func(context.Context, object.Call) (object.Payload, error)
		want    string // the value; or else
		status  int
		code    string
		outcome string
		grpc    codes.Code
	}{
		"the request": {want: "other", do: func(ctx context.Context, _ *object.CallInfo, _ object.Payload, next Next) (object.Payload, error) {
			return next(ctx, object.OfMessage(wrapperspb.String("other")))
		}},
		"the reply": {want: "reply", do: func(ctx context.Context, _ *object.CallInfo, req object.Payload, next Next) (object.Payload, error) {
			_, err := next(ctx, req)
			return object.OfMessage(wrapperspb.String("reply")), err
		}},
		"the call": {want: "instead", answer: never(t), do: func(context.Context, *object.CallInfo, object.Payload, Next) (object.Payload, error) {
			return object.OfMessage(wrapperspb.String("instead")), nil
		}},
		"an error by a reply": {want: "well", answer: failing(nodeSays), do: func(ctx context.Context, _ *object.CallInfo, req object.Payload, next Next) (object.Payload, error) {
			_, _ = next(ctx, req)
			return object.OfMessage(wrapperspb.String("well")), nil
		}},
		"a refusal": {status: 403, code: "ACCESS_DENIED", outcome: "NotExecuted", grpc: codes.PermissionDenied, answer: never(t),
			do: func(context.Context, *object.CallInfo, object.Payload, Next) (object.Payload, error) {
				return object.Payload{}, fmt.Errorf("not you: %w", &fault.Error{Kind: fault.Forbidden})
			}},
		"a refusal in gRPC's words": {status: 500, code: "CALL_FAILED", outcome: "NotExecuted", grpc: codes.ResourceExhausted, answer: never(t),
			do: func(context.Context, *object.CallInfo, object.Payload, Next) (object.Payload, error) {
				return object.Payload{}, status.Error(codes.ResourceExhausted, "too many")
			}},
		"the node's error around": {status: 404, code: "OBJECT_NOT_FOUND", outcome: "NotExecuted", grpc: codes.NotFound, answer: failing(nodeSays),
			do: func(ctx context.Context, _ *object.CallInfo, req object.Payload, next Next) (object.Payload, error) {
				_, err := next(ctx, req)
				return object.Payload{}, fmt.Errorf("of gate 1: %w", err)
			}},
		"an error behind the call": {status: 500, code: "CALL_FAILED", outcome: "Executed", grpc: codes.Unknown,
			do: func(ctx context.Context, _ *object.CallInfo, req object.Payload, next Next) (object.Payload, error) {
				_, _ = next(ctx, req)
				return object.Payload{}, errors.New("the audit failed")
			}},
		"again, in vain": {status: 502, code: "UNKNOWN_OUTCOME", outcome: "Unknown", grpc: codes.Unavailable, answer: failing(lost),
			do: func(ctx context.Context, _ *object.CallInfo, req object.Payload, next Next) (object.Payload, error) {
				_, _ = next(ctx, req)
				return next(ctx, req)
			}},
		"again, and then not at all": {status: 404, code: "OBJECT_NOT_FOUND", outcome: "Unknown", grpc: codes.NotFound, answer: failing(lost, nodeSays),
			do: func(ctx context.Context, _ *object.CallInfo, req object.Payload, next Next) (object.Payload, error) {
				_, _ = next(ctx, req)
				return next(ctx, req)
			}},
		"a panic before": {status: 500, code: "CALL_FAILED", outcome: "NotExecuted", grpc: codes.Internal, answer: never(t),
			do: func(context.Context, *object.CallInfo, object.Payload, Next) (object.Payload, error) { panic("oh") }},
		"a panic behind": {status: 500, code: "CALL_FAILED", outcome: "Executed", grpc: codes.Internal,
			do: func(ctx context.Context, _ *object.CallInfo, req object.Payload, next Next) (object.Payload, error) {
				_, _ = next(ctx, req)
				panic("oh")
			}},
		"a context that is not its own": {status: 400, code: "INVALID_BODY", outcome: "NotExecuted", grpc: codes.InvalidArgument, answer: never(t),
			do: func(_ context.Context, _ *object.CallInfo, req object.Payload, next Next) (object.Payload, error) {
				return next(context.Background(), req)
			}},
	} {
		t.Run(name, func(t *testing.T) {
			answer := c.answer
			if answer == nil {
				answer = echo
			}
			var panics atomic.Int64
			s := start(t, newCluster(answer), func(cfg *GateServerConfig) {
				cfg.Interceptors = []Interceptor{c.do}
				cfg.Listener = event.Listener{MethodPanicked: func(e event.MethodPanicked) { panics.Add(1) }}
			})
			r := request(t, s, "POST", "/api/v1/objects/Room/a/Join", `"req"`)
			reply, err := dial(t, s).CallObject(t.Context(), &gate_pb.CallObjectRequest{Type: "Room", Id: "a", Method: "Join", Request: text(t, "req")})
			if strings.Contains(name, "panic") != (panics.Load() == 2) {
				t.Errorf("%d panics were said", panics.Load())
			}
			if c.want != "" {
				if r.status != http.StatusOK || r.body != `"`+c.want+`"` {
					t.Error(r)
				}
				if err != nil || unpack(t, reply.Response) != c.want {
					t.Error(reply, err)
				}
				return
			}
			f := r.failure(t)
			if r.status != c.status || f.Code != c.code || f.Outcome != c.outcome {
				t.Errorf("%d %+v", r.status, f)
			}
			if status.Code(err) != c.grpc {
				t.Error(err)
			}
		})
	}
}

// never is a cluster that must not be asked.
func never(t *testing.T) func(context.Context, object.Call) (object.Payload, error) {
	return func(context.Context, object.Call) (object.Payload, error) {
		t.Error("the call was routed")
		return object.Payload{}, errors.New("never")
	}
}

// failing fails in turns.
func failing(errs ...error) func(context.Context, object.Call) (object.Payload, error) {
	var n atomic.Int64
	return func(context.Context, object.Call) (object.Payload, error) {
		return object.Payload{}, errs[int(n.Add(1)-1)%len(errs)]
	}
}

// What the gate knows of the caller reaches the node, also where an interceptor has made
// a context of its own around it.
func TestInterceptorsOfAGateKeepTheCaller(t *testing.T) {
	var who callctx.Caller
	s := start(t, newCluster(func(ctx context.Context, call object.Call) (object.Payload, error) {
		who = callctx.From(ctx).Caller
		return call.Payload, nil
	}), func(cfg *GateServerConfig) {
		cfg.Interceptors = []Interceptor{func(ctx context.Context, _ *object.CallInfo, req object.Payload, next Next) (object.Payload, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			return next(ctx, req)
		}}
	})
	if r := request(t, s, "POST", "/api/v1/objects/Room/a/Join", `{}`); r.status != http.StatusOK || !who.Client {
		t.Error(r, who)
	}
}
