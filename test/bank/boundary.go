package bank

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/xiaonanln/goverse/object"
)

// Boundary is an instant between two steps at which a process may die.
type Boundary string

// The boundaries: on one side of each a step is stored, or told, and the next is not.
const (
	BeforeCommit         Boundary = "before the commit of a call"
	BeforeOuterCommit    Boundary = "after the commit of a nested call, before that of its caller"
	BeforeReply          Boundary = "after the commit of a call, before its reply"
	BeforeNestedReply    Boundary = "after the commit of a nested call, before its reply"
	BeforeDelivery       Boundary = "after the commit of a one-way call, before its delivery"
	BeforeReceipt        Boundary = "after the delivery of a one-way call, before its commit"
	BeforeEnd            Boundary = "after the delivery of a one-way call, before it is forgotten"
	AfterEnd             Boundary = "after a one-way call was forgotten"
	BeforeSecondDelivery Boundary = "after a one-way call that a crash left behind was found, before its delivery"
)

// Boundaries are all of them.
var Boundaries = []Boundary{
	BeforeCommit, BeforeOuterCommit, BeforeReply, BeforeNestedReply, BeforeDelivery, BeforeReceipt, BeforeEnd, AfterEnd, BeforeSecondDelivery,
}

// Store is all that a store of nodes can do.
type Store interface {
	object.ExactlyOnceProvider
	object.TxProvider
	object.Lister
	object.FenceKeeper
	object.ClusterBinder
}

// Doomed is a store under a process that dies at a boundary. It also writes down each
// save that the store has said to be committed, before anybody else learns of it.
type Doomed struct {
	Store
	acks io.Writer // lines of type, id, version and save id
	die  func(Boundary)
	at   atomic.Pointer[Boundary] // nil: nowhere
}

// NewDoomed returns a store that lets the process live, and has die called at a boundary
// from when it is told one.
func NewDoomed(s Store, acks io.Writer, die func(Boundary)) *Doomed {
	return &Doomed{Store: s, acks: acks, die: die}
}

// DieAt has the process die the next time that it meets the boundary.
func (d *Doomed) DieAt(b Boundary) { d.at.Store(&b) }

func (d *Doomed) meet(b Boundary) {
	if at := d.at.Load(); at != nil && *at == b {
		d.die(b)
	}
}

// Commit implements object.FencedProvider.
func (d *Doomed) Commit(ctx context.Context, owner string, saves []object.Save) ([]object.Verdict, error) {
	for _, s := range saves {
		d.approach(s)
	}
	verdicts, err := d.Store.Commit(ctx, owner, saves)
	if err != nil {
		return verdicts, err
	}
	if err := d.note(saves, verdicts); err != nil {
		return nil, err
	}
	for i, v := range verdicts {
		if v.Kind == object.Committed {
			d.leave(saves[i])
		}
	}
	return verdicts, nil
}

// CommitWith implements object.TxProvider.
func (d *Doomed) CommitWith(ctx context.Context, owner string, save object.Save, hook func(context.Context, object.Tx) error) (object.Verdict, error) {
	d.approach(save)
	v, err := d.Store.CommitWith(ctx, owner, save, hook)
	if err != nil {
		return v, err
	}
	if err := d.note([]object.Save{save}, []object.Verdict{v}); err != nil {
		return object.Verdict{}, err
	}
	if v.Kind == object.Committed {
		d.leave(save)
	}
	return v, nil
}

// approach meets what lies before the commit of s.
func (d *Doomed) approach(s object.Save) {
	for _, c := range s.Calls {
		d.meet(BeforeCommit)
		switch {
		case strings.HasPrefix(c.ID, "send-"):
			d.meet(BeforeReceipt)
		case !nested(c) && c.Status == object.CallDone && (s.Ref.Type == "Clerk" || len(s.Effects) == 0):
			d.meet(BeforeOuterCommit)
		}
	}
}

// leave meets what lies behind the commit of s.
func (d *Doomed) leave(s object.Save) {
	for _, c := range s.Calls {
		if nested(c) {
			d.meet(BeforeNestedReply)
		} else {
			d.meet(BeforeReply)
		}
	}
	for range s.Effects {
		d.meet(BeforeDelivery)
	}
}

func nested(c object.CallRecord) bool { return strings.HasPrefix(c.ID, "child-") }

// PendingEffects implements object.ExactlyOnceProvider.
func (d *Doomed) PendingEffects(ctx context.Context, shard int, after object.EffectKey, limit int) ([]object.PendingEffect, error) {
	list, err := d.Store.PendingEffects(ctx, shard, after, limit)
	if len(list) > 0 {
		d.meet(BeforeSecondDelivery)
	}
	return list, err
}

// EndEffects implements object.ExactlyOnceProvider.
func (d *Doomed) EndEffects(ctx context.Context, fence object.Fence, keys []object.EffectKey) (bool, error) {
	d.meet(BeforeEnd)
	ended, err := d.Store.EndEffects(ctx, fence, keys)
	if ended {
		d.meet(AfterEnd)
	}
	return ended, err
}

func (d *Doomed) note(saves []object.Save, verdicts []object.Verdict) error {
	var lines strings.Builder
	for i, v := range verdicts {
		if s := saves[i]; v.Kind == object.Committed {
			fmt.Fprintln(&lines, s.Ref.Type, s.Ref.ID, v.Version, hex.EncodeToString(s.SaveID[:]))
		}
	}
	_, err := io.WriteString(d.acks, lines.String())
	return err
}
