package peer

import (
	"context"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// Whatever a peer sends, it gets a reply that can be sent, and what was understood
// is understood again when it is passed on.
func FuzzServe(f *testing.F) {
	seed := func(info *callctx.Info, p object.Payload) {
		frame, err := encodeRequest(callctx.With(context.Background(), info), callOf(p))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	seed(&callctx.Info{}, text("x"))
	seed(&callctx.Info{CallID: "c", Caller: callctx.Caller{Roles: []string{"r"}},
		Chain: callctx.Chain{ID: callctx.NewChainID(), Path: []callctx.Turn{{Type: "T"}}}}, object.OfJSON([]byte("{}")))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(goverse_pb.CallRequest)
		if proto.Unmarshal(b, m) != nil {
			return
		}
		again := fake{call: func(ctx context.Context, req *Request) (object.Payload, error) {
			frame, err := encodeRequest(ctx, req)
			if err != nil {
				return object.Payload{}, err
			}
			passed := new(goverse_pb.CallRequest)
			if err := proto.Unmarshal(frame, passed); err != nil {
				t.Fatal(err)
			}
			got, info, err := decodeRequest(passed)
			if err != nil || !reflect.DeepEqual(got.Ref, req.Ref) || got.Epoch != req.Epoch ||
				!reflect.DeepEqual(info.Chain, callctx.From(ctx).Chain) || info.Caller.UserID != callctx.From(ctx).Caller.UserID {
				t.Fatalf("passed on as %+v, was %+v: %v", got, req, err)
			}
			return req.Payload, nil
		}}
		reply := serve(t.Context(), again, m)
		if _, err := proto.Marshal(reply); err != nil {
			t.Fatal(err)
		}
		if p, err := decodeReply(object.FormMessage, reply); err != nil && fault.KindOf(err) == 0 {
			t.Fatalf("%v %v", p, err)
		}
	})
}
