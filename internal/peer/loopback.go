package peer

import (
	"context"
	"sync"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Loopback is the way to svc in this very process: a function call on the caller's
// goroutine. Nothing is marshalled, and live messages are shared. A call that is on
// its way when it is closed still returns what it did.
func Loopback(svc Service) Conn {
	l := &loopback{svc: svc}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

type loopback struct {
	svc    Service
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
}

func (l *loopback) ServeCall(ctx context.Context, req *Request) (object.Payload, error) {
	if err := ctx.Err(); err != nil {
		return object.Payload{}, fault.WaitedFor(err, "before the call began")
	}
	if l.ctx.Err() != nil {
		return object.Payload{}, closed()
	}
	if info := callctx.From(ctx); info.CallID != req.ID {
		own := *info
		own.CallID = req.ID
		ctx = callctx.With(ctx, &own)
	}
	return l.svc.ServeCall(ctx, req)
}

func (l *loopback) ServePushes(ctx context.Context, h Hearing, ready func(Opening), deliver func(PushFrame) error) error {
	if l.ctx.Err() != nil {
		return closed()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	var once sync.Once
	return l.svc.ServePushes(ctx, h, func(o Opening) { once.Do(func() { ready(o) }) }, deliver)
}

func (l *loopback) ServeStage(ctx context.Context, stage *Stage) error {
	if l.ctx.Err() != nil {
		return closed()
	}
	return l.svc.ServeStage(ctx, stage)
}

func (l *loopback) ServeProbe(ctx context.Context, probe *Probe) ([]string, error) {
	if l.ctx.Err() != nil {
		return nil, closed()
	}
	return l.svc.ServeProbe(ctx, probe)
}

func (l *loopback) ListObjects(ctx context.Context, objType, after string, limit int) ([]object.Listed, error) {
	if l.ctx.Err() != nil {
		return nil, closed()
	}
	return l.svc.ListObjects(ctx, objType, after, limit)
}

func (l *loopback) StoredState(ctx context.Context, ref object.Ref) (object.Record, error) {
	if l.ctx.Err() != nil {
		return object.Record{}, closed()
	}
	return l.svc.StoredState(ctx, ref)
}

func (l *loopback) Catalog(ctx context.Context, known string) (object.Catalog, error) {
	if l.ctx.Err() != nil {
		return object.Catalog{}, closed()
	}
	return l.svc.Catalog(ctx, known)
}

func (l *loopback) Close() error {
	l.cancel()
	return nil
}

// closed is the error of a Conn that was closed before the call left.
func closed() *fault.Error { return fault.New(fault.NotReady, "the connection is closed") }
