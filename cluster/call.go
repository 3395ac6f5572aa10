package cluster

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

var callBackoff = etcdmanager.Backoff{First: 2 * time.Millisecond, Max: 500 * time.Millisecond}

// maxHops bounds how often in one call a node's word is taken for who the holder is.
const maxHops = 8

// flight is one call on its way.
type flight struct {
	callctx.Bounded
	req    peer.Request
	pinned string // the node that the id names, or ""
	hint   hint
	last   error         // why the last attempt did not run
	ran    bool          // perhaps: the outcome of an attempt was lost
	wait   time.Duration // at least, before the next attempt
	cutoff time.Time     // of waiting; zero: it has not waited yet
}

// hint is what a node answered that knew of a newer holder than the view.
type hint struct {
	address string
	epoch   uint64
	taken   int
}

// Call runs a call wherever its object lives, and waits for its shard to have a
// holder. It tries again only what surely did not run, or what the call says may run
// more than once, until ctx's deadline or, if ctx has none, the configured one.
// Caller and chain travel in ctx. Errors are *fault.Error.
func (c *Cluster) Call(ctx context.Context, call object.Call) (object.Payload, error) {
	if c.cfg.Tracer == nil {
		return c.call(ctx, call)
	}
	ctx, span := c.cfg.Tracer.Begin(ctx, stretchOf(ctx, &call))
	if span == nil {
		return c.call(ctx, call)
	}
	reply, err := c.call(ctx, call)
	span.End(err)
	return reply, err
}

// stretchOf is the span of a call. A trace may begin with one of the program's own, that
// neither an object nor a client makes.
func stretchOf(ctx context.Context, call *object.Call) callctx.Stretch {
	info := callctx.From(ctx)
	return callctx.Stretch{
		Kind: callctx.Calling, Root: !info.Caller.Client && info.Chain.ID == callctx.ChainID{},
		Op: call.Op.String(), Type: call.Ref.Type, ID: call.Ref.ID, Method: call.Method,
	}
}

func (c *Cluster) call(ctx context.Context, call object.Call) (object.Payload, error) {
	if err := valid(&call); err != nil {
		if object.ValidID(call.Ref.ID) != nil {
			c.reached(event.ObjectID, object.Ref{})
		}
		return object.Payload{}, err.On(call.Op.String(), call.Subject())
	}
	if err := c.refuses(ctx); err != nil {
		return object.Payload{}, err.On(call.Op.String(), call.Subject())
	}
	f := &flight{req: peer.Request{Call: call}}
	if err := ctx.Err(); err != nil {
		return object.Payload{}, fault.WaitedFor(err, "before the call began").On(call.Op.String(), call.Subject())
	}
	if _, ok := ctx.Deadline(); !ok {
		f.Bind(ctx, time.Now().Add(c.cfg.CallTimeout))
		ctx = &f.Bounded
		defer f.End()
	}
	c.budget.earn()
	reply, err := c.carry(ctx, f)
	if err != nil && f.ran && fault.OutcomeOf(err) == fault.NotExecuted {
		err = fault.Of(err).With(fault.OutcomeUnknown) // only the last attempt did not run
	}
	if err != nil && fault.KindOf(err) == fault.TooLarge && fault.OutcomeOf(err) == fault.Executed {
		c.reached(event.MessageBytes, call.Ref) // the reply
	}
	return reply, err
}

// reached tells of a limit.
func (c *Cluster) reached(l event.Limit, ref object.Ref) {
	if on := c.cfg.Listener.LimitReached; on != nil {
		on(event.LimitReached{Limit: l, Type: ref.Type, ID: ref.ID})
	}
}

// carry is the attempts of a call, until one counts.
func (c *Cluster) carry(ctx context.Context, f *flight) (object.Payload, error) {
	for attempt := 0; ; attempt++ {
		v := c.View()
		to, err := c.route(ctx, &v, f)
		if err != nil {
			return object.Payload{}, fault.Of(err).On(f.req.Op.String(), f.req.Subject())
		}
		reply, err := c.try(ctx, to, f)
		if err == nil {
			return reply, nil
		}
		if !c.again(v, f, err) {
			return reply, c.explain(v, to, f, err)
		}
		if !c.hinted(f) {
			c.moved(ctx, v, f, max(f.wait, callBackoff.Delay(attempt, mathrand.Float64())))
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
	if call.ID != "" || call.Op == object.OpSettle {
		if err := object.ValidID(call.ID); err != nil {
			return fault.New(fault.Invalid, "the call's id: %w", err)
		}
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
		if f.last != nil {
			if cause := f.spent(ctx); cause != nil {
				return "", c.waited(cause, *v, f)
			}
		}
		if to := c.holder(*v, f); to != "" {
			return to, nil
		}
		if err := c.awaitHolder(ctx, *v, f); err != nil {
			return "", err
		}
	}
}

// awaitHolder waits for a newer view than one in which the shard is between holders.
func (c *Cluster) awaitHolder(ctx context.Context, v *consensusmanager.View, f *flight) error {
	if v.Table.Len() > 0 && f.pinned == "" {
		defer c.wanted.add(sharding.ID(f.req.Shard))()
	}
	ctx, cancel := f.patience(ctx)
	defer cancel()
	select {
	case <-v.Superseded():
	case <-c.stopped:
	case <-ctx.Done():
		return c.waited(ctx.Err(), v, f)
	}
	return nil
}

// answerTime is kept back of the time of a call that only waits: its caller gives up at
// the deadline, and has to have heard by then that nothing ran.
const answerTime = 50 * time.Millisecond

// patience is ctx for as long as f may wait while nobody is asked.
func (f *flight) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if f.cutoff.IsZero() {
		deadline, _ := ctx.Deadline() // Call has seen to it
		f.cutoff = deadline.Add(-min(answerTime, time.Until(deadline)/10))
	}
	return context.WithDeadline(ctx, f.cutoff)
}

// spent is why f may not wait any more, or nil.
func (f *flight) spent(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !f.cutoff.IsZero() && !time.Now().Before(f.cutoff) {
		return context.DeadlineExceeded
	}
	return nil
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

// try is one attempt: where there is no way to the node, by way of another.
func (c *Cluster) try(ctx context.Context, to string, f *flight) (object.Payload, error) {
	conn, err := c.conns.to(to)
	if err != nil {
		return object.Payload{}, fault.New(fault.NotReady, "%w", err)
	}
	reply, err := conn.ServeCall(ctx, &f.req)
	if err == nil || !errors.Is(err, peer.ErrUnreachable) {
		return reply, err
	}
	through := c.detour(to)
	if through == "" {
		return reply, err
	}
	if conn, err = c.conns.to(through); err != nil {
		return object.Payload{}, fault.New(fault.NotReady, "%w", err)
	}
	c.step("relay", "to "+to+" through "+through, nil)
	relayed := f.req
	relayed.Relay, relayed.Hops = to, relayed.Hops+1
	return conn.ServeCall(ctx, &relayed)
}

// detour is a third node, a different one from time to time, or "".
func (c *Cluster) detour(to string) string {
	members := c.View().Members()
	if len(members) == 0 {
		return ""
	}
	first := mathrand.IntN(len(members))
	for i := range members {
		m := members[(first+i)%len(members)]
		if m.Address != to && m.Address != c.cfg.Address {
			return m.Address
		}
	}
	return ""
}

// again is the retry law: only what the table says is to be routed anew, and only
// if it surely did not run. An overloaded node is asked again within the budget, and
// after its outcome was lost a call that may run twice, or that has an id.
func (c *Cluster) again(v *consensusmanager.View, f *flight, err error) bool {
	e := fault.Of(err)
	f.wait = e.RetryAfter
	switch {
	case e.Kind == fault.Indeterminate && f.req.AtLeastOnce, f.once() && isUnknown(e):
		f.ran = true
	case fault.OutcomeOf(e) != fault.NotExecuted:
		return false
	case e.Kind == fault.Overloaded:
		if !c.budget.spend() {
			c.reached(event.Retries, f.req.Ref)
			return false
		}
	case !e.Kind.Row().Reroutes:
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

// once says that the call may always be made again: its id is kept with its result.
func (f *flight) once() bool { return f.req.ID != "" && !f.req.IDIfKept }

// isUnknown: an answer was lost, the holder was deposed while the call ran, or its store
// does not say whether it committed.
func isUnknown(e *fault.Error) bool {
	lost := e.Kind == fault.Indeterminate || e.Kind == fault.Fenced || e.Kind == fault.StoreFailed
	return lost && fault.OutcomeOf(e) == fault.OutcomeUnknown
}

// explain adds to a refusal what only the picture of the cluster tells.
func (c *Cluster) explain(v *consensusmanager.View, to string, f *flight, err error) error {
	e := fault.Of(err)
	if e.Kind != fault.UnknownType {
		return err
	}
	name := f.req.Ref.Type
	var hosts []string
	for _, m := range v.Members() {
		if m, ok := v.Member(m.Address); ok && slices.Contains(m.Types, name) {
			hosts = append(hosts, m.Address)
		}
	}
	if len(hosts) == 0 {
		return err
	}
	return (&fault.Error{Kind: fault.UnknownType, Err: fmt.Errorf(
		"the object's shard is held by %s, which does not host type %s; %s does: give every node the same types", to, name, strings.Join(hosts, ", "))}).On(e.Op, e.Subject)
}

// hinted says whether there is someone else to ask at once.
func (c *Cluster) hinted(f *flight) bool { return f.hint.address != "" }

// moved waits until the view names another holder than v did, d at the longest.
func (c *Cluster) moved(ctx context.Context, v *consensusmanager.View, f *flight, d time.Duration) {
	ctx, cancel := f.patience(ctx)
	defer cancel()
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
