package cluster

import (
	"context"
	mathrand "math/rand/v2"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

var callBackoff = etcdmanager.Backoff{First: 2 * time.Millisecond, Max: 500 * time.Millisecond}

// maxHops bounds how often in one call a node's word is taken for who the holder is.
const maxHops = 8

// flight is one call on its way.
type flight struct {
	bounded
	req    peer.Request
	pinned string // the node that the id names, or ""
	hint   hint
	last   error // why the last attempt did not run
}

// hint is what a node answered that knew of a newer holder than the view.
type hint struct {
	address string
	epoch   uint64
	taken   int
}

// Call runs a call wherever its object lives, and waits for its shard to have a
// holder. It tries again only what surely did not run, until ctx's deadline or, if
// ctx has none, the configured one. Caller and chain travel in ctx. Errors are
// *fault.Error.
func (c *Cluster) Call(ctx context.Context, call object.Call) (object.Payload, error) {
	if err := valid(&call); err != nil {
		return object.Payload{}, err.On(call.Op.String(), call.Subject())
	}
	f := &flight{req: peer.Request{Call: call}}
	if err := ctx.Err(); err != nil {
		return object.Payload{}, fault.WaitedFor(err, "before the call began").On(call.Op.String(), call.Subject())
	}
	if _, ok := ctx.Deadline(); !ok {
		f.bounded.Context, f.bounded.deadline = ctx, time.Now().Add(c.cfg.CallTimeout)
		ctx = &f.bounded
		defer f.end()
	}
	for attempt := 0; ; attempt++ {
		v := c.View()
		to, err := c.route(ctx, &v, f)
		if err != nil {
			return object.Payload{}, fault.Of(err).On(call.Op.String(), call.Subject())
		}
		reply, err := c.try(ctx, to, f)
		if err == nil || !c.again(v, f, err) {
			return reply, err
		}
		if !c.hinted(f) {
			c.moved(ctx, v, f, callBackoff.Delay(attempt, mathrand.Float64()))
		}
	}
}

// valid refuses what no node would take.
func valid(call *object.Call) *fault.Error {
	if err := object.ValidID(call.Ref.ID); err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	if err := object.ValidName(call.Ref.Type); err != nil {
		return fault.New(fault.Invalid, "type: %w", err)
	}
	if call.Op != object.OpCall {
		return nil
	}
	if err := object.ValidName(call.Method); err != nil {
		return fault.New(fault.Invalid, "method: %w", err)
	}
	return nil
}

// route waits for the object's shard, or its node, to be there, and returns the
// address to ask. v becomes the view that said so.
func (c *Cluster) route(ctx context.Context, v **consensusmanager.View, f *flight) (string, error) {
	for ; ; *v = c.View() {
		select {
		case <-c.stopped: // the view stands still and names whom it named
			return "", fault.New(fault.NotReady, "%w", errStopped)
		default:
		}
		if f.last != nil && ctx.Err() != nil {
			return "", c.waited(ctx.Err(), *v, f)
		}
		if to := c.holder(*v, f); to != "" {
			return to, nil
		}
		select {
		case <-(*v).Superseded():
		case <-c.stopped:
		case <-ctx.Done():
			return "", c.waited(ctx.Err(), *v, f)
		}
	}
}

// holder is the address to ask by v, or by a hint that is newer; "" while there is
// none.
func (c *Cluster) holder(v *consensusmanager.View, f *flight) string {
	if v.Table.Len() == 0 {
		return ""
	}
	if f.req.Shard = sharding.GetShardID(f.req.Ref.ID, v.Table.Len()); f.pins() {
		if v.Members().Has(f.pinned) {
			return f.pinned
		}
		return ""
	}
	address, epoch := v.Holder(sharding.ID(f.req.Shard))
	if f.hint.epoch > epoch {
		address, epoch = f.hint.address, f.hint.epoch
	}
	f.req.Epoch = epoch
	return address
}

// pins says whether the id names a node.
func (f *flight) pins() bool {
	if f.pinned == "" {
		f.pinned, _ = sharding.PinnedNode(f.req.Ref.ID)
	}
	return f.pinned != ""
}

// try is one attempt.
func (c *Cluster) try(ctx context.Context, to string, f *flight) (object.Payload, error) {
	conn, err := c.conns.to(to)
	if err != nil {
		return object.Payload{}, fault.New(fault.NotReady, "%w", err)
	}
	return conn.ServeCall(ctx, &f.req)
}

// again is the retry law: only what the table says is to be routed anew, and only
// if it surely did not run.
func (c *Cluster) again(v *consensusmanager.View, f *flight, err error) bool {
	e := fault.Of(err)
	if !e.Kind.Row().Reroutes || fault.OutcomeOf(e) != fault.NotExecuted {
		return false
	}
	f.last = err
	if e.Kind == fault.WrongHolder && e.Holder != "" && e.Epoch > f.req.Epoch && f.hint.taken < maxHops && v.Members().Has(e.Holder) {
		f.hint = hint{address: e.Holder, epoch: e.Epoch, taken: f.hint.taken + 1}
		return true
	}
	f.hint = hint{taken: f.hint.taken}
	return true
}

// hinted says whether there is someone else to ask at once.
func (c *Cluster) hinted(f *flight) bool { return f.hint.address != "" }

// moved waits until the view names another holder than v did, d at the longest.
func (c *Cluster) moved(ctx context.Context, v *consensusmanager.View, f *flight, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	address, epoch := v.Holder(sharding.ID(f.req.Shard))
	for now := v; ; now = c.View() {
		if a, e := now.Holder(sharding.ID(f.req.Shard)); a != address || e != epoch {
			return
		}
		select {
		case <-now.Superseded():
		case <-timer.C:
			return
		case <-c.stopped:
			return
		case <-ctx.Done():
			return
		}
	}
}

// waited is the error of a call that ended before anyone could be asked.
func (c *Cluster) waited(cause error, v *consensusmanager.View, f *flight) error {
	switch {
	case f.last != nil:
		return fault.WaitedFor(cause, "%v", f.last)
	case f.pinned != "":
		return fault.WaitedFor(cause, "no node is registered at %s, which the id names", f.pinned)
	case v.Table.Len() == 0:
		return fault.WaitedFor(cause, "%s", describe(v, 0))
	}
	return fault.WaitedFor(cause, "%s", describe(v, sharding.ID(f.req.Shard)))
}

// await waits for a newer view than v, d at the longest.
func await(ctx context.Context, v *consensusmanager.View, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-v.Superseded():
	case <-timer.C:
	case <-ctx.Done():
	}
}
