package node

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

var _, _ object.Records = (*Node)(nil), (*frame)(nil)

// ListObjects implements object.Records.
func (n *Node) ListObjects(ctx context.Context, objType, after string, limit int) ([]object.Listed, error) {
	list, err := n.list(ctx, objType, after, limit)
	if err != nil {
		return nil, fault.Of(err).On("ListObjects", objType)
	}
	return list, nil
}

func (n *Node) list(ctx context.Context, objType, after string, limit int) ([]object.Listed, error) {
	if err := object.ValidName(objType); err != nil {
		return nil, fault.New(fault.Invalid, "type: %w", err)
	}
	if after != "" {
		if err := object.ValidID(after); err != nil {
			return nil, fault.New(fault.Invalid, "after: %w", err)
		}
	}
	switch {
	case limit == 0:
		limit = object.DefaultListed
	case limit < 0 || limit > object.MaxListed:
		return nil, fault.New(fault.Invalid, "a list of %d objects is not possible: ask for 1 to %d, and for more after the last", limit, object.MaxListed)
	}
	switch p := n.PersistenceProvider().(type) {
	case nil:
		return nil, errNoStore
	case object.Lister:
		done := asked(n.on, event.StoreList)
		list, err := p.List(ctx, objType, after, limit)
		done(err)
		return list, unread(ctx, err)
	default:
		return nil, fault.New(fault.Invalid, "the store (%T) cannot list what it has", p)
	}
}

// StoredState implements object.Records. A fenced store's record has its version; of
// another one only the state is known.
func (n *Node) StoredState(ctx context.Context, ref object.Ref) (object.Record, error) {
	record, err := n.stored(ctx, ref)
	if err != nil {
		return object.Record{}, fault.Of(err).On("StoredState", ref.String())
	}
	return record, nil
}

func (n *Node) stored(ctx context.Context, ref object.Ref) (r object.Record, err error) {
	if err := errors.Join(object.ValidName(ref.Type), object.ValidID(ref.ID)); err != nil {
		return r, fault.New(fault.Invalid, "%w", err)
	}
	done := asked(n.on, event.StoreLoad)
	switch p := n.PersistenceProvider().(type) {
	case nil:
		return r, errNoStore
	case object.FencedProvider:
		r, err = p.Load(ctx, ref)
	default:
		r.Data, err = p.LoadObject(ctx, ref.Type, ref.ID)
	}
	if err == nil && r.Data == nil || errors.Is(err, object.ErrNotStored) {
		done(nil)
		return r, fault.New(fault.NotFound, "the object has no stored state")
	}
	done(err)
	return r, unread(ctx, err)
}

var errNoStore = fault.New(fault.NotReady, "this node has no store")

func unread(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fault.Waited(ctx, "while the store was being read")
	}
	return fault.New(fault.StoreFailed, "the store could not be read: %w", err).With(fault.NotExecuted)
}

// ListObjects implements object.Records.
func (f *frame) ListObjects(ctx context.Context, objType, after string, limit int) ([]object.Listed, error) {
	return f.act.node.ListObjects(ctx, objType, after, limit)
}

// StoredState implements object.Records.
func (f *frame) StoredState(ctx context.Context, ref object.Ref) (object.Record, error) {
	return f.act.node.StoredState(ctx, ref)
}

// sayLosses tells, once for each type, what its store cannot give it.
func (n *Node) sayLosses(t *object.Type) {
	on := n.on.Notice
	if on == nil || n.durability(t, &n.slots[0]) == object.Volatile {
		return
	}
	if _, said := n.losses.LoadOrStore(t.Name, true); said {
		return
	}
	lacks, unsafe := losses(t, n.PersistenceProvider())
	if len(lacks) == 0 {
		return
	}
	notice := event.Notice{Severity: event.Info, From: "node"}
	if unsafe {
		notice.Severity = event.Warn
	}
	notice.Text = fmt.Sprintf("objects of type %s are kept in a store (%T) that cannot give them: %s", t.Name, n.PersistenceProvider(), strings.Join(lacks, "; "))
	on(notice)
}

// losses is what objects of a type do not have on a store. unsafe: their state may be
// overwritten by a node that does not know that it is not the holder any more.
func losses(t *object.Type, p object.PersistenceProvider) (lacks []string, unsafe bool) {
	if _, ok := p.(object.FencedProvider); !ok {
		lacks, unsafe = append(lacks, "fences, so that a node which was cut off may overwrite what its successor has stored"), true
	}
	if t.Durability.Interval() > 0 {
		return lacks, unsafe
	}
	if _, ok := p.(object.ExactlyOnceProvider); !ok {
		lacks = append(lacks, "calls that take effect exactly once, and messages that survive a crash")
	}
	if _, ok := p.(object.TxProvider); !ok {
		lacks = append(lacks, "OnCommit")
	}
	if _, ok := p.(object.FenceKeeper); !ok {
		lacks = append(lacks, "service while etcd is silent")
	}
	return lacks, unsafe
}
