package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// outlast is a Change that takes two seconds, whatever its context says.
func outlast(_ context.Context, o *Thing) error {
	time.Sleep(2 * time.Second)
	o.N++
	return nil
}

// What a method did counts, though its caller's time was over when it ended: the caller
// is told at once that it does not know, and the state is saved, so that memory and store
// never differ and the calls behind it find one object.
func TestAMethodThatOutlastsItsCaller(t *testing.T) {
	for _, c := range []struct {
		name string
		call func(*world, context.Context) (int64, error)
	}{
		{"a call", func(w *world, ctx context.Context) (int64, error) { return w.call(ctx, "x.Change", outlast) }},
		{"a call with an id", func(w *world, ctx context.Context) (int64, error) { return w.once(ctx, "one", "x.Change", outlast) }},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t, kept)
			w.want(bg, "x.Read", 0)
			let := w.hold()
			began := time.Now()
			ctx, cancel := within(time.Second)
			defer cancel()
			late := begin(func() (int64, error) { return c.call(w, ctx) })
			synctest.Wait()
			behind := w.start(bg, "x.Change")
			_, err := late.wait()
			isFault(t, err, fault.Deadline, fault.OutcomeUnknown)
			if took := time.Since(began); took != 2*time.Second {
				t.Error("it was told after", took)
			}
			if !behind.running() {
				t.Error("a call was answered that found what is not saved")
			}
			let()
			if n, err := behind.wait(); n != 2 || err != nil {
				t.Error(n, err)
			}
			w.wantEvents("+x stored=false") // it lives on
			if c.name == "a call with an id" {
				w.wantOnce("one", "x.Change", 1)
			}
			w.want(bg, "x.Read", 2)
			w.epoch++
			w.open()
			w.want(bg, "x.Read", 2) // as it is stored
		})
	}
}

// It is the same where the store fails: then nothing of it is kept, in memory neither.
func TestALateMethodWhoseSaveFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.want(bg, "x.Change", 1)
		let := w.holdAs(memstore.Fault{Err: object.ErrNotCommitted})
		ctx, cancel := within(time.Second)
		defer cancel()
		_, err := w.call(ctx, "x.Change", outlast)
		isFault(t, err, fault.Deadline, fault.OutcomeUnknown)
		synctest.Wait()
		let()
		synctest.Wait()
		w.want(bg, "x.Read", 1)
	})
}

// A hook's commit, too, goes on where there is a place for it.
func TestALateMethodWithAHook(t *testing.T) {
	ctx, cancel := context.WithCancel(bg)
	cancel()
	c := &commits{seats: make(chan struct{}, 1)}
	for range 100 {
		leave, err := c.seat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		leave()
	}
	c.seats <- struct{}{}
	_, err := c.seat(ctx)
	isFault(t, err, fault.Overloaded, fault.NotExecuted)
}
