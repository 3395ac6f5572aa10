package node

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/xiaonanln/goverse/internal/fault"
)

// packed is an object's state, ready for the road.
type packed struct {
	created time.Time
	state   []byte
	uses    uint64 // the activation's, with the turn that the state was taken on

	incarnation, published uint64 // of its feed, with the turn too
}

// packUp takes the object's state on a turn of its own; nil where the object is in
// use.
func (a *activation) packUp(ctx context.Context) (*packed, error) {
	h, ok := a.tryTake()
	if !ok {
		return nil, nil
	}
	a.mu.Lock()
	p := &packed{created: a.obj.CreationTime(), uses: a.turns.uses + 1} // this turn counts
	p.incarnation, p.published = a.feedLocked()
	a.mu.Unlock()
	err := a.beside(ctx, "its ToData ran", func() (err error) {
		defer a.leave(h, false)
		p.state, err = a.pack()
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// beside runs the object's code, which may never end, or end its goroutine, beside
// the caller, who waits no longer than ctx lives.
func (a *activation) beside(ctx context.Context, what string, work func() error) error {
	result := make(chan error, 1)
	a.node.running.Go(func() {
		err := error(errGoexit)
		defer func() { result <- err }()
		err = work()
	})
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fault.Waited(ctx, "while %s", what)
	}
}

// pack reads the object's state on its turn, as the wire carries it.
func (a *activation) pack() (state []byte, err error) {
	defer a.survive("ToData", &err)
	m, err := a.obj.ToData()
	if err == nil {
		state, err = packState(m)
	}
	if err != nil {
		return nil, fault.New(fault.StoreFailed, "its state cannot be taken along to the shard's next holder: %w", err).With(fault.NotExecuted)
	}
	return state, nil
}

func packState(m proto.Message) ([]byte, error) {
	if m == nil || !m.ProtoReflect().IsValid() {
		return nil, errNoState
	}
	packed, err := anypb.New(m)
	if err != nil {
		return nil, err
	}
	state, err := proto.Marshal(packed)
	if err == nil && len(state) > MaxStateBytes {
		err = fmt.Errorf("it has %d bytes; at most %d are allowed", len(state), MaxStateBytes)
	}
	return state, err
}

// unpackAny reads the envelope of a state.
func unpackAny(state []byte) (*anypb.Any, error) {
	a := new(anypb.Any)
	return a, proto.Unmarshal(state, a)
}

// unpack is the message that packState packed. Its type must be linked into this
// program.
func unpack(state []byte) (proto.Message, error) {
	a, err := unpackAny(state)
	if err != nil {
		return nil, err
	}
	return a.UnmarshalNew()
}
