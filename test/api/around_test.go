package api

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/gate/gateserver"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	"github.com/xiaonanln/goverse/server"
)

var (
	_ goverseapi.State[*wrapperspb.StringValue] = goverseapi.NewState(wrapperspb.String(""))
	_ goverseapi.Interceptor                    = func(ctx context.Context, _ *goverseapi.CallInfo, req proto.Message, next goverseapi.Next) (proto.Message, error) {
		return next(ctx, req)
	}
	_ func(...goverseapi.Interceptor) goverseapi.TypeOption = goverseapi.Intercept
	_                                                       = server.ServerConfig{CopyMessages: true, Interceptors: []goverseapi.Interceptor{}}
	_                                                       = gateserver.GateServerConfig{Interceptors: []gateserver.Interceptor{}}
)

// List keeps lines in its State, and is volatile: they go along with the object.
type List struct {
	goverseapi.BaseObject
	goverseapi.State[*structpb.ListValue]
}

func (l *List) Append(_ context.Context, line *wrapperspb.StringValue) (*structpb.ListValue, error) {
	l.State().Values = append(l.State().Values, structpb.NewStringValue(line.GetValue()))
	return l.State(), nil
}

func (l *List) Lines(context.Context, *wrapperspb.StringValue) (*structpb.ListValue, error) {
	return l.State(), nil
}

// A State goes through whatever a hand-written one does, and interceptors are around the
// methods on every node.
func TestStateAndInterceptors(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	house := goversetest.Cluster{
		Nodes: 3, CopyMessages: true,
		Types: []goversetest.Type{
			goversetest.Of((*List)(nil), goverseapi.WithDurability(goverseapi.Volatile), goverseapi.ReadOnlyMethods("Lines")),
			goversetest.Of((*List)(nil), goverseapi.WithName("Kept"), goverseapi.ReadOnlyMethods("Lines")),
		},
		Interceptors: []goverseapi.Interceptor{func(ctx context.Context, call *goverseapi.CallInfo, req proto.Message, next goverseapi.Next) (proto.Message, error) {
			mu.Lock()
			seen[call.Ref.Type+"."+call.Method]++
			mu.Unlock()
			if text, ok := req.(*wrapperspb.StringValue); ok && text.GetValue() == "forbidden" {
				return nil, errors.Join(goverseapi.ErrForbidden, errors.New("this word is not for lists"))
			}
			return next(ctx, req)
		}},
	}
	goversetest.Run(t, house, func(w *goversetest.World) {
		clear(seen)
		for _, typ := range []string{"List", "Kept"} {
			ref := typ + "/x"
			for i, line := range []string{"a", "b", "c"} {
				reply := w.Connect().Call(ref, "Append", wrapperspb.String(line)).(*structpb.ListValue)
				if len(reply.Values) != i+1 || reply.Values[i].GetStringValue() != line {
					w.T.Fatal(typ, reply)
				}
				w.Restart(w.Holder(ref))
			}
			_, err := w.TryCall(ref, "Append", wrapperspb.String("forbidden"))
			if !errors.Is(err, goverseapi.ErrForbidden) || goverseapi.OutcomeOf(err) != goverseapi.NotExecuted || !strings.Contains(err.Error(), "not for lists") {
				w.T.Error(err)
			}
			if got := w.Call(ref, "Lines", nil).(*structpb.ListValue); len(got.Values) != 3 {
				w.T.Error(typ, got)
			}
			if err := w.Delete(ref); err != nil {
				w.T.Error(err)
			}
			if got := w.Call(ref, "Lines", nil).(*structpb.ListValue); len(got.Values) != 0 {
				w.T.Error("a new life begins with", got)
			}
			mu.Lock()
			if seen[typ+".Append"] != 4 || seen[typ+".Lines"] != 2 {
				w.T.Error(seen)
			}
			mu.Unlock()
		}
	})
}
