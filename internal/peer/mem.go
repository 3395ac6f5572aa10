package peer

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// Network is a network in memory, for worlds that are simulated in a synctest
// bubble. What crosses it is marshalled as on the wire, so no memory is shared. It
// behaves like connections over TCP: a partition holds messages back, healing lets
// them through, and a connection that was silent for too long is given up. All
// methods may be called concurrently.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	cuts      map[road]bool
	lose      map[string]int // answers still to be lost, by who gives them
	delay     time.Duration
	changed   chan struct{} // closed and replaced by each change of what is above
}

type road struct{ from, to string }

// listener is a peer that can be called, until stop.
type listener struct {
	svc  Service
	ctx  context.Context // ends with stop
	gone <-chan struct{}
}

// givenUpAfter is when a connection that nothing crosses is given up.
const givenUpAfter = pingAfter + pingTimeout

// NewNetwork returns a network without hosts, delays or faults.
func NewNetwork() *Network {
	return &Network{listeners: map[string]*listener{}, cuts: map[road]bool{}, lose: map[string]int{}, changed: make(chan struct{})}
}

// Listen makes svc reachable at addr until stop, which is like the process's death:
// the contexts of its calls end and its callers see a lost connection. An address
// that is taken is the world's mistake and panics.
func (n *Network) Listen(addr string, svc Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &listener{svc: svc, ctx: ctx, gone: ctx.Done()}
	n.change(func() {
		if n.listeners[addr] != nil {
			panic("peer: the address " + addr + " is taken in this network")
		}
		n.listeners[addr] = l
	})
	return sync.OnceFunc(func() {
		n.change(func() { delete(n.listeners, addr) })
		cancel()
	})
}

// Dialer dials as from, which is what Partition knows the caller by.
func (n *Network) Dialer(from string) Dialer { return memDialer{n: n, from: from} }

// Partition holds back what a and b send each other.
func (n *Network) Partition(a, b string) {
	n.change(func() { n.cuts[road{a, b}], n.cuts[road{b, a}] = true, true })
}

// PartitionOneWay holds back what from sends to to: requests of from's calls and
// answers to calls of to.
func (n *Network) PartitionOneWay(from, to string) {
	n.change(func() { n.cuts[road{from, to}] = true })
}

// Heal ends what Partition and PartitionOneWay began between a and b.
func (n *Network) Heal(a, b string) {
	n.change(func() { delete(n.cuts, road{a, b}); delete(n.cuts, road{b, a}) })
}

// HealAll ends every partition.
func (n *Network) HealAll() { n.change(func() { clear(n.cuts) }) }

// Delay makes each message take d from one host to another, from now on.
func (n *Network) Delay(d time.Duration) { n.change(func() { n.delay = d }) }

// LoseAnswers loses the next count answers that from gives: the calls run, and
// their callers do not learn how they ended.
func (n *Network) LoseAnswers(from string, count int) {
	n.change(func() { n.lose[from] = count })
}

func (n *Network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *Network) losesAnswer(from string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lose[from] == 0 {
		return false
	}
	n.lose[from]--
	return true
}

func (n *Network) latency() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.delay
}

// look says who listens at r.to and whether r is open, and what ends that being so.
func (n *Network) look(r road) (l *listener, open bool, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listeners[r.to], !n.cuts[r], n.changed
}

// await returns when r is open, or with the error of what came first: ctx, or
// patience with a road that is cut.
func (n *Network) await(ctx context.Context, patience time.Duration, r road) error {
	_, open, changed := n.look(r)
	if open {
		return nil
	}
	impatient := time.NewTimer(patience)
	defer impatient.Stop()
	for ; !open; _, open, changed = n.look(r) {
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-impatient.C:
			return errSilent
		}
	}
	return nil
}

// travel is await and the time that the way takes.
func (n *Network) travel(ctx context.Context, r road) error {
	if d := n.latency(); d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return n.await(ctx, givenUpAfter, r)
}

var (
	errSilent = fault.New(fault.Indeterminate, "nothing was heard for %v", givenUpAfter)
	errGone   = fault.New(fault.Indeterminate, "the peer is gone")
	errClosed = fault.New(fault.Indeterminate, "the connection was closed")
	errLost   = fault.New(fault.Indeterminate, "the answer was lost")
)

type memDialer struct {
	n    *Network
	from string
}

func (d memDialer) Dial(address string) (Conn, error) {
	if address == "" {
		return nil, fault.New(fault.Invalid, "a peer has no address")
	}
	c := &memConn{n: d.n, out: road{d.from, address}, back: road{address, d.from}}
	c.questions = questions{c}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c, nil
}

type memConn struct {
	questions
	n         *Network
	out, back road
	ctx       context.Context // ends with Close
	cancel    context.CancelCauseFunc

	mu sync.Mutex
	to *listener // whom it is connected to; nil before the first call and after a loss
}

func (c *memConn) Close() error {
	c.cancel(errClosed)
	return nil
}

// connect returns the listener at the other end. A connection that stands is used
// even when the road is cut: only silence tells.
func (c *memConn) connect(ctx context.Context) (*listener, error) {
	if c.ctx.Err() != nil {
		return nil, closed()
	}
	l, open, _ := c.n.look(c.out)
	c.mu.Lock()
	standing := c.to
	c.mu.Unlock()
	if standing != nil && (standing == l || !open) {
		return standing, nil
	}
	for _, r := range []road{c.out, c.back} {
		if err := c.n.await(ctx, connectTimeout, r); err != nil {
			if ctx.Err() != nil {
				return nil, c.over(ctx, false)
			}
			return nil, unreachable(c.out.to, "connecting takes too long")
		}
	}
	l, _, _ = c.n.look(c.out)
	if l == nil {
		return nil, unreachable(c.out.to, "connection refused")
	}
	c.stand(l)
	return l, nil
}

func (c *memConn) stand(l *listener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.to = l
}

// over is the error of a wait that ctx ended; its cause says whether that was the
// caller or the connection.
func (c *memConn) over(ctx context.Context, sent bool) error {
	switch cause := context.Cause(ctx); {
	case cause != errClosed:
		return ended(ctx.Err(), c.out.to, sent)
	case sent:
		return lostAnswer(cause, c.out.to)
	default:
		return closed()
	}
}

func lostAnswer(why error, address string) *fault.Error {
	return fault.New(fault.Indeterminate, "the answer of %s was lost: %v", address, fault.Of(why).Err)
}

// attached is ctx that also ends with the connection.
func (c *memConn) attached(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

func (c *memConn) ServeCall(ctx context.Context, req *Request) (object.Payload, error) {
	if err := ctx.Err(); err != nil {
		return object.Payload{}, fault.WaitedFor(err, "before the call left")
	}
	frame, err := encodeRequest(ctx, req)
	if err != nil {
		return object.Payload{}, err
	}
	reply := new(goverse_pb.CallReply)
	if err := c.exchange(ctx, frame, serveCall, reply); err != nil {
		return object.Payload{}, err
	}
	return decodeReply(req.Payload.Form, reply)
}

func (c *memConn) ServeStage(ctx context.Context, stage *Stage) error {
	frame, err := encodeStage(stage)
	if err != nil {
		return err
	}
	reply := new(goverse_pb.StageReply)
	if err := c.exchange(ctx, frame, serveStageFrame, reply); err != nil {
		return err
	}
	return faultOf(reply.Fault)
}

func (c *memConn) ServeProbe(ctx context.Context, probe *Probe) ([]string, error) {
	frame, err := encodeProbe(probe)
	if err != nil {
		return nil, err
	}
	reply := new(goverse_pb.ProbeReply)
	if err := c.exchange(ctx, frame, serveProbeFrame, reply); err != nil {
		return nil, err
	}
	return reply.Path, faultOf(reply.Fault)
}

func (c *memConn) ListObjects(ctx context.Context, objType, after string, limit int) ([]object.Listed, error) {
	frame, err := encodeList(objType, after, limit)
	if err != nil {
		return nil, err
	}
	reply := new(goverse_pb.ListObjectsReply)
	if err := c.exchange(ctx, frame, serveListFrame, reply); err != nil {
		return nil, err
	}
	return decodeList(objType, reply)
}

func (c *memConn) StoredState(ctx context.Context, ref object.Ref) (object.Record, error) {
	frame, err := encodeStateOf(ref)
	if err != nil {
		return object.Record{}, err
	}
	reply := new(goverse_pb.StoredStateReply)
	if err := c.exchange(ctx, frame, serveStateOfFrame, reply); err != nil {
		return object.Record{}, err
	}
	return decodeStateOf(reply)
}

func (c *memConn) Catalog(ctx context.Context, known string) (object.Catalog, error) {
	frame, err := encodeQuery(&goverse_pb.CatalogRequest{Known: known})
	if err != nil {
		return object.Catalog{}, err
	}
	reply := new(goverse_pb.CatalogReply)
	if err := c.exchange(ctx, frame, serveCatalogFrame, reply); err != nil {
		return object.Catalog{}, err
	}
	return decodeCatalog(reply)
}

// answering makes the answer to a request that arrived at svc.
type answering func(ctx context.Context, svc Service, frame []byte) proto.Message

func serveCall(ctx context.Context, svc Service, frame []byte) proto.Message {
	return serve(ctx, svc, arrived(frame, new(goverse_pb.CallRequest)))
}

func serveStageFrame(ctx context.Context, svc Service, frame []byte) proto.Message {
	return serveStage(ctx, svc, arrived(frame, new(goverse_pb.StageRequest)))
}

func serveProbeFrame(ctx context.Context, svc Service, frame []byte) proto.Message {
	return serveProbe(ctx, svc, arrived(frame, new(goverse_pb.ProbeRequest)))
}

func serveListFrame(ctx context.Context, svc Service, frame []byte) proto.Message {
	return serveList(ctx, svc, arrived(frame, new(goverse_pb.ListObjectsRequest)))
}

func serveStateOfFrame(ctx context.Context, svc Service, frame []byte) proto.Message {
	return serveStateOf(ctx, svc, arrived(frame, new(goverse_pb.StoredStateRequest)))
}

func serveCatalogFrame(ctx context.Context, svc Service, frame []byte) proto.Message {
	return serveCatalog(ctx, svc, arrived(frame, new(goverse_pb.CatalogRequest)))
}

// arrived reads what this very network carried.
func arrived[M proto.Message](frame []byte, m M) M {
	if err := proto.Unmarshal(frame, m); err != nil {
		panic("peer: a request does not survive the wire: " + err.Error())
	}
	return m
}

// exchange connects, sends a request and waits for the reply to it.
func (c *memConn) exchange(ctx context.Context, frame []byte, serve answering, reply proto.Message) error {
	ctx, cancel := c.attached(ctx)
	defer cancel()
	l, err := c.connect(ctx)
	if err != nil {
		return err
	}
	answer, err := c.roundTrip(ctx, l, frame, serve)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(answer, reply); err != nil {
		return lostAnswer(err, c.out.to)
	}
	return nil
}

// roundTrip sends a request and waits for its answer.
func (c *memConn) roundTrip(ctx context.Context, l *listener, frame []byte, serve answering) ([]byte, error) {
	if err := c.reach(ctx, l); err != nil {
		return nil, c.broke(ctx, err)
	}
	answer, err := c.answer(ctx, c.start(ctx, l, frame, serve), l)
	if err != nil {
		return nil, c.broke(ctx, err)
	}
	if c.n.losesAnswer(c.out.to) {
		return nil, c.broke(ctx, errLost)
	}
	if err := c.n.travel(ctx, c.back); err != nil {
		return nil, c.broke(ctx, err)
	}
	if err := ctx.Err(); err != nil { // the answer may be but the other end's word for that
		return nil, c.broke(ctx, err)
	}
	return answer, nil
}

// reach takes what was sent to l, if l still lives by then.
func (c *memConn) reach(ctx context.Context, l *listener) error {
	if err := c.n.travel(ctx, c.out); err != nil {
		return err
	}
	if l.ctx.Err() != nil {
		return errGone
	}
	return nil
}

// broke is the error of a call whose request was sent.
func (c *memConn) broke(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return c.over(ctx, true)
	}
	c.stand(nil)
	return lostAnswer(err, c.out.to)
}

// start runs the call at the other end. It outlives its caller until the caller's
// cancellation arrives there, which takes an open road.
func (c *memConn) start(caller context.Context, l *listener, frame []byte, serve answering) <-chan []byte {
	answers := make(chan []byte, 1)
	ctx, cancel := context.WithCancel(l.ctx)
	unlink := context.AfterFunc(caller, func() {
		_ = c.n.await(ctx, givenUpAfter, c.out)
		cancel()
	})
	go func() {
		defer cancel()
		reply := serve(ctx, l.svc, frame)
		unlink()
		answer, err := proto.Marshal(reply)
		if err != nil {
			panic("peer: a reply that cannot be marshalled: " + err.Error())
		}
		if l.ctx.Err() == nil { // the dead do not answer
			answers <- answer
		}
	}()
	return answers
}

// answer waits for one, until the connection is lost.
func (c *memConn) answer(ctx context.Context, answers <-chan []byte, l *listener) ([]byte, error) {
	w := c.watch()
	defer w.stop()
	for {
		gone := w.look(l)
		select {
		case answer := <-answers:
			return answer, nil
		case <-gone:
			return nil, errGone
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-w.silent:
			return nil, errSilent
		case <-w.changed:
		}
	}
}

// watch notices that a connection is silent: one of its roads is cut for too long.
type watch struct {
	c       *memConn
	timer   *time.Timer
	silent  <-chan time.Time // nil while both roads are open
	changed <-chan struct{}
}

func (c *memConn) watch() *watch { return &watch{c: c} }

// look starts or stops counting the silence, and returns l's end if it would be
// heard of.
func (w *watch) look(l *listener) (gone <-chan struct{}) {
	_, out, changed := w.c.n.look(w.c.out)
	_, back, _ := w.c.n.look(w.c.back) // not older than changed
	w.changed = changed
	if out && back {
		w.stop()
		return l.gone
	}
	if w.silent == nil {
		w.timer = time.NewTimer(givenUpAfter)
		w.silent = w.timer.C
	}
	if back {
		return l.gone
	}
	return nil
}

func (w *watch) stop() {
	if w.silent != nil {
		w.timer.Stop()
		w.silent = nil
	}
}
