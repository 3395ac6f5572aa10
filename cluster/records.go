package cluster

import (
	"context"
	"errors"
	mathrand "math/rand/v2"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

var _ object.Records = (*Cluster)(nil)

// askPatience is how long one node may take to say what is stored, before another is
// asked.
const askPatience = 5 * time.Second

// ListObjects implements object.Records: the nodes share one store, and any of them can
// say what it has.
func (c *Cluster) ListObjects(ctx context.Context, objType, after string, limit int) (list []object.Listed, err error) {
	err = c.ask(ctx, func(ctx context.Context, node object.Records) (err error) {
		list, err = node.ListObjects(ctx, objType, after, limit)
		return err
	})
	if err != nil {
		return nil, fault.Of(err).On("ListObjects", objType)
	}
	return list, nil
}

// StoredState implements object.Records.
func (c *Cluster) StoredState(ctx context.Context, ref object.Ref) (record object.Record, err error) {
	err = c.ask(ctx, func(ctx context.Context, node object.Records) (err error) {
		record, err = node.StoredState(ctx, ref)
		return err
	})
	if err != nil {
		return object.Record{}, fault.Of(err).On("StoredState", ref.String())
	}
	return record, nil
}

// ask puts a question about the store to one node after the other, until one of them
// answers. A question does no harm when it is asked twice.
func (c *Cluster) ask(ctx context.Context, question func(context.Context, object.Records) error) error {
	ctx, cancel := c.patient(ctx)
	defer cancel()
	nodes, err := c.archivists()
	if err != nil {
		return err
	}
	var problems []error
	for _, address := range nodes {
		err := c.askOne(ctx, address, question)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fault.Waited(ctx, "asking %s what is stored: %w", address, errors.Join(append(problems, err)...))
		case !isElsewhere(err):
			return err
		}
		problems = append(problems, err)
	}
	if len(problems) == 1 {
		return problems[0]
	}
	return fault.New(fault.NotReady, "no node says what is stored: %w", errors.Join(problems...))
}

func (c *Cluster) askOne(ctx context.Context, address string, question func(context.Context, object.Records) error) error {
	conn, err := c.conns.to(address)
	if err != nil {
		return fault.New(fault.NotReady, "%w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	return question(ctx, conn)
}

// isElsewhere: another node may answer what this one did not.
func isElsewhere(err error) bool {
	switch fault.KindOf(err) {
	case fault.NotReady, fault.Draining, fault.Overloaded, fault.Indeterminate, fault.Deadline, fault.Canceled, fault.StoreFailed:
		return true
	}
	return false
}

// patient is ctx with the deadline of a call.
func (c *Cluster) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.cfg.CallTimeout)
}

// archivists is the nodes that can say what the cluster's store has, in the order in
// which they are to be asked: this process's own first.
func (c *Cluster) archivists() ([]string, error) {
	v := c.View()
	members := v.Members()
	switch {
	case len(members) == 0:
		return nil, fault.New(fault.NotReady, "no node is running that could say what is stored")
	case len(members) > 1 && (v.Meta == nil || v.Meta.Store == consensusmanager.NoStore):
		return nil, fault.New(fault.Invalid, "the %d nodes have no store that is known to be one (an object.FencedProvider): each may have its own objects; ask the operations port of each node", len(members))
	}
	nodes := make([]string, len(members))
	for i, at := range mathrand.Perm(len(members)) {
		nodes[i] = members[at].Address
		if nodes[i] == c.cfg.Address {
			nodes[0], nodes[i] = nodes[i], nodes[0]
		}
	}
	return nodes, nil
}
