package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/cluster/sharding"
	"github.com/xiaonanln/goverse/internal/event"
)

// When the store was put back, what the host has of its shards is void, and the fences
// are those of long ago: of earlier holders, or of this node at an epoch under which it
// has saved what is no more. The host has shut its shards by then. What is being opened
// is waited for, the history is adopted, and each shard is raised to an epoch that no
// history of the store has seen before it is opened again:
//
//	open → closed, void → busy (raising) → closed → busy (opening) → open
//
// Others do so by themselves, whenever they notice. Nobody needs to know who has: who
// holds a shard is etcd's to say, as ever, and nothing of it is loaded before its stamp.

// rewind is the time from when the store was found to be put back until its history was
// adopted.
type rewind struct {
	since    time.Time
	adopting bool
	attempts int
	said     string // why it could not be, last
}

// restamp is what is still to be opened after a rewind.
type restamp struct {
	since  time.Time
	shards int
	left   map[sharding.ID]bool
}

// rewound tells when the store is found to be put back; while that is being dealt with
// it never does.
func (r *reconciler) rewound() <-chan struct{} {
	if r.rewind != nil {
		return nil
	}
	return r.host.Rewound()
}

// goBack forgets what was open: the host has shut it.
func (r *reconciler) goBack() {
	r.rewind = &rewind{since: time.Now()}
	list := r.held()
	for _, id := range list {
		h := &r.slots[id]
		h.void = max(h.void, h.record.Epoch)
		r.forget(id)
	}
	r.c.step("rewind", fmt.Sprintf("%d shards: the store was put back", len(list)), nil)
}

// adopt goes on with the store's history once nothing is being opened under the earlier
// one.
func (r *reconciler) adopt() {
	w := r.rewind
	if w.adopting || r.opening > 0 || r.work.Err() != nil {
		return
	}
	w.adopting = true
	attempt := w.attempts
	r.workers.Go(func() {
		err := r.host.Adopt(r.work)
		if err == nil {
			err = r.ownStore(r.work)
		}
		if err != nil {
			shardBackoff.Wait(r.work, attempt)
		}
		r.posts <- func() { r.adopted(err) }
	})
}

// ownStore makes a store that was put back to before it was anybody's this cluster's.
func (r *reconciler) ownStore(ctx context.Context) error {
	if r.c.cfg.BindStore == nil {
		return nil
	}
	owner, err := r.c.cfg.BindStore(ctx, r.reg.Meta.Cluster)
	if err == nil && owner != r.reg.Meta.Cluster {
		err = fmt.Errorf("%w: it belongs to cluster %s, and this is %s: put a backup of this cluster's store back", consensusmanager.ErrStoreForeign, owner, r.reg.Meta.Cluster)
	}
	return err
}

func (r *reconciler) adopted(err error) {
	w := r.rewind
	w.adopting = false
	if r.trouble = err; err != nil {
		w.attempts++
		if text := err.Error(); text != w.said && r.work.Err() == nil {
			w.said = text
			r.c.notice(event.Alarm, "the store was put back, and this node cannot go on with it yet", err)
		}
		return
	}
	r.goBack() // what was being opened meanwhile
	r.rewind = nil
	if r.restamp == nil {
		r.restamp = &restamp{since: w.since}
	}
	r.restamp.left = map[sharding.ID]bool{}
	for _, s := range r.c.View().Table.All() {
		if int(s.ID) >= len(r.slots) {
			break // etcd was formed anew with more shards: the registration is lost
		}
		if h := &r.slots[s.ID]; s.HeldBy(r.reg.Address, r.reg.Registration) {
			h.void = max(h.void, s.Epoch)
			r.survey.touch(s.ID)
			r.restamp.left[s.ID] = true
		}
	}
	r.restamp.shards = len(r.restamp.left)
	r.c.step("adopt", fmt.Sprintf("the store's history, with %d shards to be raised", r.restamp.shards), nil)
}

// raise mints epochs for shards under which nothing was ever saved.
func (r *reconciler) raise(shards []*sharding.Shard) {
	if len(shards) == 0 {
		return
	}
	floors := make(map[sharding.ID]uint64, len(shards))
	for _, s := range shards {
		floors[s.ID] = r.slots[s.ID].void
	}
	r.mint(shards, floors)
}

// sayRestamped tells when all that was held when the store was put back is served again,
// here or by others.
func (r *reconciler) sayRestamped(v *consensusmanager.View) {
	if r.restamp == nil {
		return
	}
	for id := range r.restamp.left {
		if r.slots[id].held() || !v.Table.Shard(id).HeldBy(r.reg.Address, r.reg.Registration) {
			delete(r.restamp.left, id)
		}
	}
	if len(r.restamp.left) > 0 {
		return
	}
	r.c.notice(event.Info, fmt.Sprintf("the store was put back: all %d shards of this node are stamped anew and served, after %v",
		r.restamp.shards, time.Since(r.restamp.since).Round(time.Millisecond)), nil)
	r.restamp = nil
}
