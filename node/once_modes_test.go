package node

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Result, hooks and state of a call with an id are one commit: all of it, or nothing,
// and then the same id runs again.
func TestOnCommitOfACallWithAnID(t *testing.T) {
	for _, typ := range []string{"Kept", "Tried"} {
		bubble(t, typ, func(t *testing.T) {
			w, tab := start(t, kept, tried(object.Durable)), new(table)
			x := typ + "/x"
			for range 3 {
				if n, err := w.once(bg, "one", x+".Change", adds(tab.insert("one"))); n != 1 || err != nil {
					t.Error(n, err)
				}
			}
			tab.want(t, "one")
			_, err := w.once(bg, "two", x+".Change", adds(tab.insert("two"), func(context.Context, object.Tx) error { return errUser }))
			isFault(t, err, fault.Failed, fault.Executed)
			w.want(bg, x+".Read", 1)
			for range 2 {
				if n, err := w.once(bg, "two", x+".Change", adds(tab.insert("two"))); n != 2 || err != nil {
					t.Error(n, err)
				}
			}
			tab.want(t, "one", "two")
			w.epoch++
			w.open() // another activation
			if n, err := w.once(bg, "two", x+".Change", adds(tab.insert("no"))); n != 2 || err != nil {
				t.Error(n, err)
			}
			tab.want(t, "one", "two")
			w.wantStored(x, 2, 2)
		})
	}
}

// What a method that was undone had sent does not leave; that it failed is recorded.
func TestUndoOfACallWithAnID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, tried(object.Durable))
		w.want(bg, "Tried/x.Change", 1)
		send := func(ctx context.Context) {
			_, err := w.send(ctx, object.Call{Ref: object.Ref{Type: "Kept", ID: "y"}, Method: "Change", OneWay: true})
			w.must(err)
		}
		fails := func(ctx context.Context, o *Thing) error { o.N = 70; send(ctx); return errUser }
		for range 2 {
			_, err := w.once(bg, "one", "Tried/x.Change", fails)
			isFault(t, err, fault.Failed, fault.Executed)
		}
		_, err := w.once(bg, "one", "Tried/x.Change") // would not fail if it ran
		isFault(t, err, fault.Failed, fault.Executed)
		_, err = w.call(bg, "Tried/x.Change", func(ctx context.Context, o *Thing) error {
			o.N = 5
			w.call(ctx, "Tried/x.Other", fails)
			send(ctx)
			return nil
		})
		w.must(err)
		synctest.Wait()
		w.want(bg, "Kept/y.Read", 1)
		w.want(bg, "Tried/x.Read", 5)
	})
}
