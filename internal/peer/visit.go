package peer

import (
	"time"

	"google.golang.org/grpc/mem"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/stack"
)

// visit is a call of a peer's while it is here, and the context that it runs in.
type visit struct {
	callctx.Bounded // by the lane's life and the call's deadline

	lane  *inbound
	id    uint64
	size  int
	body  []byte
	batch mem.Buffer // that body is a view of, or nil

	req  Request
	info callctx.Info
}

// run serves the call and answers it.
func (v *visit) run() {
	stack.Stretch()
	defer v.lane.running.Done()
	timeout, err := parseCall(v.body, &v.req, &v.info)
	if v.body = nil; v.batch != nil {
		v.batch.Free()
		v.batch = nil
	}
	if err == nil && v.info.Trace != nil && v.lane.features&featureTrace == 0 {
		err = errTrace
	}
	if err != nil {
		v.lane.fail(breach{err})
		return
	}
	var deadline time.Time
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	v.Bind(v.lane.ctx, deadline)
	payload, err := v.lane.svc.ServeCall(v, &v.req)
	v.End()
	payload.Unsaved = payload.Unsaved && v.lane.features&featureUnsaved != 0
	reply := buffers.Empty(0)
	*reply = appendReply(*reply, payload, err)
	_ = v.lane.reply(v.id, *reply) // else the lane has ended, and with it the peer's wait
	if len(*reply) <= maxBody {
		buffers.Put(reply)
	}
}

// Value implements context.Context.
func (v *visit) Value(key any) any {
	if key == (callctx.Key{}) {
		return &v.info
	}
	return v.Bounded.Value(key)
}
