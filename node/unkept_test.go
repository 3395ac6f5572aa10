package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// Of a call whose commit fails nothing is kept, but what it did elsewhere stays: then it
// cannot be said that it did not run. However it is committed, and whoever joined it.
func TestWhatACallDidElsewhereStays(t *testing.T) {
	for _, c := range []struct {
		name    string
		does    func(w *world, ctx context.Context)
		outcome fault.Outcome
	}{
		{"nothing", func(*world, context.Context) {}, fault.NotExecuted},
		{"changed", func(w *world, ctx context.Context) { w.want(ctx, "y.Change", 1) }, fault.OutcomeUnknown},
		{"changed, and failed", func(w *world, ctx context.Context) {
			_, err := w.call(ctx, "y.Change", func(context.Context, *Thing) error { return errUser })
			isFault(w.t, err, fault.Failed, fault.Executed)
		}, fault.OutcomeUnknown},
		{"read, and what was read may have changed another", func(w *world, ctx context.Context) { w.want(ctx, "y.Read", 0) }, fault.OutcomeUnknown},
		{"was refused", func(w *world, ctx context.Context) {
			_, err := w.call(ctx, "\x00.Change")
			isFault(w.t, err, fault.Invalid, fault.NotExecuted)
		}, fault.NotExecuted},
		{"left a call behind", func(w *world, ctx context.Context) {
			entered := make(chan struct{})
			w.start(ctx, "y.Change", func(ctx context.Context, _ *Thing) error {
				close(entered)
				<-ctx.Done()
				return nil
			})
			<-entered
		}, fault.OutcomeUnknown},
		{"sent", func(w *world, ctx context.Context) { // with its commit, and so not at all
			_, err := w.send(ctx, object.Call{Ref: object.Ref{Type: "Kept", ID: "y"}, Method: "Change", OneWay: true})
			w.must(err)
		}, fault.NotExecuted},
	} {
		for name, call := range map[string]func(w *world, does script) []*pending{
			"in a group": func(w *world, does script) []*pending { return []*pending{w.start(bg, "x.Change", does)} },
			"alone": func(w *world, does script) []*pending {
				return []*pending{w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error {
					w.must(does(ctx, o))
					return inside(ctx).OnCommit(new(table).insert("row"))
				})}
			},
			"under an id": func(w *world, does script) (calls []*pending) {
				for range 3 {
					calls = append(calls, begin(func() (int64, error) { return w.once(bg, "one", "x.Change", does) }))
				}
				return calls
			},
		} {
			bubble(t, c.name+"/"+name, func(t *testing.T) {
				w, let := start(t, kept), make(chan struct{})
				w.store.Fail(func(op memstore.Op) memstore.Fault {
					if op.Kind != memstore.Commit || op.Saves[0].Ref.ID != "x" {
						return memstore.Fault{}
					}
					return memstore.Fault{Wait: let, Err: object.ErrNotCommitted}
				})
				calls := call(w, func(ctx context.Context, o *Thing) error {
					o.N++
					c.does(w, ctx)
					return nil
				})
				synctest.Wait()
				close(let)
				for _, p := range calls {
					_, err := p.wait()
					isFault(t, err, fault.StoreFailed, c.outcome)
				}
			})
		}
	}
}

// What a method has flushed stays, too, when the rest of it cannot be stored.
func TestWhatWasFlushedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Hour)))
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			o.N = 5
			w.must(inside(ctx).Flush(ctx))
			w.set(func(h *hooks) { h.toData = func(*Thing) (proto.Message, error) { return nil, errUser } })
			return nil
		})
		isFault(t, err, fault.Failed, fault.OutcomeUnknown)
		w.wantStored("x", 5, 1)
	})
}

// While others run that may have been saved with what this one had half done.
func TestHalfDoneInConcurrentMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithMode(object.Concurrent))
		w.set(atomically)
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind != memstore.Commit {
				return memstore.Fault{}
			}
			return memstore.Fault{Err: object.ErrNotCommitted}
		})
		_, err := w.call(bg, "x.Change", addAtomic)
		isFault(t, err, fault.StoreFailed, fault.OutcomeUnknown)
	})
}

// An object that is ending does not stand in the way of its successor's creation.
func TestCreateBehindAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		w.must(w.create(bg, "Kept/x"))
		let := make(chan struct{})
		w.set(func(h *hooks) { h.onDestroy = func(*Thing) { <-let } })
		w.slots[w.shardOf("x")].acts.find(object.Ref{Type: "Kept", ID: "x"}).end("idle")
		synctest.Wait()
		created := begin(func() (int64, error) { return 0, w.create(bg, "Kept/x") })
		if !created.running() {
			t.Error("it did not wait for the end:", created.err)
		}
		close(let)
		if _, err := created.wait(); err != nil {
			t.Error(err)
		}
	})
}
