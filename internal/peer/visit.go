package peer

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/xiaonanln/goverse/internal/callctx"
)

// visit is a call of a peer's while it is here, and the context that it runs in. Most
// calls end without anyone having waited for their context's end: until somebody does,
// there is no channel and no timer.
type visit struct {
	lane  *inbound
	id    uint64
	size  int
	body  []byte
	batch mem.Buffer // that body is a view of, or nil

	req      Request
	info     callctx.Info
	deadline time.Time // zero: none

	armed atomic.Pointer[timed] // nil: nobody waits yet; set once
}

// timed is the ordinary context that stands in once it is needed.
type timed struct {
	context.Context
	cancel context.CancelFunc
}

// over stands in after the call has ended without anyone waiting.
var over = func() *timed {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return &timed{ctx, cancel}
}()

// run serves the call and answers it.
func (v *visit) run() {
	defer v.lane.running.Done()
	timeout, err := parseCall(v.body, &v.req, &v.info)
	if v.body = nil; v.batch != nil {
		v.batch.Free()
		v.batch = nil
	}
	if err != nil {
		v.lane.fail(breach{err})
		return
	}
	if timeout > 0 {
		v.deadline = time.Now().Add(timeout)
	}
	payload, err := v.lane.svc.ServeCall(v, &v.req)
	v.end()
	payload.Unsaved = payload.Unsaved && v.lane.features&featureUnsaved != 0
	reply := buffers.empty(0)
	*reply = appendReply(*reply, payload, err)
	_ = v.lane.reply(v.id, *reply) // else the lane has ended, and with it the peer's wait
	if len(*reply) <= maxBody {
		buffers.Put(reply)
	}
}

// Deadline implements context.Context.
func (v *visit) Deadline() (time.Time, bool) { return v.deadline, !v.deadline.IsZero() }

// Done implements context.Context.
func (v *visit) Done() <-chan struct{} { return v.arm().Done() }

// Err implements context.Context.
func (v *visit) Err() error {
	if t := v.armed.Load(); t != nil {
		return t.Err()
	}
	if err := v.lane.ctx.Err(); err != nil {
		return err
	}
	if v.deadline.IsZero() || time.Now().Before(v.deadline) {
		return nil
	}
	<-v.arm().Done()
	return v.arm().Err()
}

// Value implements context.Context. The one that stands in answers itself, so that
// contexts made of v find it and need no goroutine to follow it.
func (v *visit) Value(key any) any {
	if key == (callctx.Key{}) {
		return &v.info
	}
	if t := v.armed.Load(); t != nil && t != over {
		return t.Value(key)
	}
	return v.lane.ctx.Value(key)
}

func (v *visit) arm() *timed {
	if t := v.armed.Load(); t != nil {
		return t
	}
	t := new(timed)
	if v.deadline.IsZero() {
		t.Context, t.cancel = context.WithCancel(v.lane.ctx)
	} else {
		t.Context, t.cancel = context.WithDeadline(v.lane.ctx, v.deadline)
	}
	if !v.armed.CompareAndSwap(nil, t) { // somebody else was first, or the call has ended
		t.cancel()
	}
	return v.armed.Load()
}

// end cancels the context; it is done from then on.
func (v *visit) end() {
	if !v.armed.CompareAndSwap(nil, over) {
		v.armed.Load().cancel()
	}
}
