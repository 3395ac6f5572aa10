package peer

import (
	"context"
	"errors"

	"github.com/xiaonanln/goverse/internal/callctx"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// A call's place in a trace is in its head where the trace is kept, and the lane has
// featureTrace.

func (w *headWriter) trace(t *callctx.Trace) {
	if !t.Valid() {
		return
	}
	w.b = append(append(w.b, t.ID[:]...), t.Span[:]...)
	w.texts(t.State)
}

func (r *headReader) trace() *callctx.Trace {
	t := new(callctx.Trace)
	copy(t.ID[:], r.raw(len(t.ID)))
	copy(t.Span[:], r.raw(len(t.Span)))
	t.State = r.text()
	if !t.Valid() {
		r.fail()
	}
	return t
}

var errTrace = errors.New("a call says what trace it is in, on a lane without that")

// withoutTrace is ctx for a peer that knows nothing of traces.
func withoutTrace(ctx context.Context) context.Context {
	info := *callctx.From(ctx)
	info.Trace = nil
	return callctx.With(ctx, &info)
}

// EncodeTrace is a place in a trace, on the wire and in a store.
func EncodeTrace(t *callctx.Trace) *goverse_pb.Trace {
	if !t.Valid() {
		return nil
	}
	return &goverse_pb.Trace{Id: t.ID[:], Span: t.Span[:], State: t.State}
}

// DecodeTrace is what EncodeTrace was given; nil for what is none.
func DecodeTrace(m *goverse_pb.Trace) *callctx.Trace {
	t := &callctx.Trace{State: m.GetState()}
	if copy(t.ID[:], m.GetId()) != len(m.GetId()) || copy(t.Span[:], m.GetSpan()) != len(m.GetSpan()) || !t.Valid() {
		return nil
	}
	return t
}
