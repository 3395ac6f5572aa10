package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/xiaonanln/goverse/internal/event"
)

// Doors is what serves the lanes of a process's peers. All methods may be called
// concurrently.
type Doors struct {
	svc    Service
	member *Membership // nil: lanes are streams of gRPC's server
	on     event.Listener

	mu      sync.Mutex // protects following fields
	ended   *sync.Cond // a lane of own
	open    map[*inbound]bool
	own     map[*connPipe]bool // the lanes that have connections to themselves
	leaving bool
	closed  bool
}

func newDoors(svc Service, m *Membership, on event.Listener) *Doors {
	d := &Doors{svc: svc, member: m, on: on, open: map[*inbound]bool{}, own: map[*connPipe]bool{}}
	d.ended = sync.NewCond(&d.mu)
	return d
}

// Leave tells all peers, and those that still come, to make no new calls over their
// lanes. What they have sent is still answered.
func (d *Doors) Leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leaving = true
	for l := range d.open {
		l.leave()
	}
}

// Wait returns when no lane is left that has a connection to itself: gRPC's server knows
// nothing of these.
func (d *Doors) Wait() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.own) > 0 {
		d.ended.Wait()
	}
}

// Close ends the lanes that have connections to themselves, and returns when nothing reads
// or writes them any more. None comes in again.
func (d *Doors) Close() {
	d.mu.Lock()
	d.closed = true
	for p := range d.own {
		p.hangUp()
	}
	d.mu.Unlock()
	d.Wait()
}

// serve is a lane that is a stream, from its greeting to its end.
func (d *Doors) serve(stream grpc.ServerStream) error {
	who := "a peer"
	if from, ok := grpcpeer.FromContext(stream.Context()); ok {
		who = from.Addr.String()
	}
	_, err := d.carry(stream.Context(), grpcPipe{stream, func() {}}, who)
	if errors.As(err, new(breach)) {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return err
}

// take serves a lane on a connection of a member, and does not wait for it.
func (d *Doors) take(conn net.Conn) {
	p := newConnPipe(conn)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		p.hangUp()
		return
	}
	d.own[p] = true
	go func() {
		l, _ := d.carry(context.Background(), p, conn.RemoteAddr().String()) // a breach was told of, and the rest the caller hears
		p.hangUp()
		if l != nil {
			l.carriers.Wait()
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.own, p)
		d.ended.Broadcast()
	}()
}

// carry serves a lane until it ends; nil: in good order. The lane is nil if there was none.
func (d *Doors) carry(ctx context.Context, p pipe, who string) (l *inbound, err error) {
	agreed, err := d.welcome(p)
	if err == nil {
		l = newInbound(ctx, d.svc, p, laneLimits)
		l.features = agreed.features
		err = d.host(l)
	}
	if errors.Is(err, errLeaving) {
		return l, nil
	}
	tell(d.on, who, err)
	return l, err
}

// welcome exchanges greetings with a peer that has come.
func (d *Doors) welcome(p pipe) (agreed hello, err error) {
	theirs, err := heed(p)
	if err != nil {
		if _, isStatus := status.FromError(err); isStatus || errors.Is(err, io.EOF) {
			return agreed, err // it left before it spoke
		}
		return agreed, breach{err}
	}
	if d.isLeaving() {
		b, _ := appendFrame(nil, kindGoodbye, 0, nil)
		return agreed, errors.Join(errLeaving, p.send(&b, nil))
	}
	own := spoken(d.member)
	if err := greet(p, own); err != nil {
		return agreed, err
	}
	if agreed, err = own.agree(theirs); err != nil {
		return agreed, breach{err}
	}
	return agreed, nil
}

// spoken is what a process says that it speaks.
func spoken(m *Membership) hello {
	own := speaks
	if m != nil {
		own.features |= featureOwn
	}
	return own
}

func (d *Doors) isLeaving() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.leaving
}

// host runs a lane as one of the open ones.
func (d *Doors) host(l *inbound) error {
	d.mu.Lock()
	if d.open[l] = true; d.leaving { // since it was welcome
		l.leave()
	}
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.open, l)
	}()
	return l.run()
}
