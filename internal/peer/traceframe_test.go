package peer

import (
	"context"
	"testing"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// A call's trace arrives over a lane whose two ends know traces; a lane of an older
// version carries the call without it.
func TestATraceArrivesWhereItIsKnown(t *testing.T) {
	place := callctx.ParseTrace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "v=1")
	ctx := callctx.With(t.Context(), &callctx.Info{Trace: place})
	heard := make(chan *callctx.Trace, 1)
	l := tcp(t)
	serveOn(t, l, fake{call: func(ctx context.Context, _ *Request) (object.Payload, error) {
		heard <- callctx.From(ctx).Trace
		return object.Payload{}, nil
	}})
	if _, err := dial(t, NewGRPCDialer(event.Listener{}), l.Addr().String()).ServeCall(ctx, callOf(text("x"))); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got == nil || *got != *place {
		t.Errorf("it arrives as %+v", got)
	}

	old := hello{lowest: 1, highest: 1}
	address := strange(t, func(p grpcPipe) error {
		if _, err := heed(p); err != nil {
			return err
		}
		says(t, p, old.append(nil))
		b, err := p.receive()
		if err != nil {
			return err
		}
		f, _, err := cutFrame(b.ReadOnlyData())
		var info callctx.Info
		if err == nil {
			_, err = parseCall(f.body, new(Request), &info)
		}
		b.Free()
		if err != nil || info.Trace != nil {
			t.Errorf("a peer of an older version gets %+v, %v", info.Trace, err)
		}
		says(t, p, batchOf(frame{kindReply, f.id, appendReply(nil, object.Payload{}, nil)}))
		<-p.stream.Context().Done()
		return nil
	})
	if _, err := dial(t, NewGRPCDialer(event.Listener{}), address).ServeCall(ctx, callOf(text("x"))); err != nil {
		t.Error(err)
	}

	p := rawLane(t, l.Addr().String())
	says(t, p, old.append(nil))
	if _, err := heed(p); err != nil {
		t.Fatal(err)
	}
	body, err := appendCall(ctx, nil, callOf(text("x")))
	if err != nil {
		t.Fatal(err)
	}
	says(t, p, batchOf(frame{kindCall, 1, body}))
	if _, err := p.receive(); err == nil {
		t.Error("a peer that has not said that it knows traces names one")
	}
}

// What is no place in a trace goes nowhere.
func TestTracesThatAreNone(t *testing.T) {
	for _, m := range []*goverse_pb.Trace{nil, {}, {Id: make([]byte, 16), Span: make([]byte, 8)}, {Id: make([]byte, 1<<20)},
		{Id: []byte("0123456789abcdef"), Span: []byte("012345678")}, {Id: []byte("0123456789abcdef"), Span: []byte("01234567"), State: "\n"}} {
		if got := DecodeTrace(m); got != nil {
			t.Errorf("%v is %+v", m, got)
		}
	}
	if EncodeTrace(callctx.Untraced) != nil || EncodeTrace(nil) != nil {
		t.Error("no trace is one")
	}
}
