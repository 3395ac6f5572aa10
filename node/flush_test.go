package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// inside is what the method's runtime offers.
func inside(ctx context.Context) object.Inside {
	rt, _ := object.RuntimeFrom(ctx)
	return rt.(object.Inside)
}

func TestFlushIsABarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Hour)))
		w.want(bg, "x.Change", 1)
		let := w.hold()
		flushed := false
		p := w.start(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			o.N = 10
			if err := inside(ctx).Flush(ctx); err != nil {
				return err
			}
			flushed = true
			w.wantStored("x", 10, 1)
			o.N = 11
			return inside(ctx).Flush(ctx)
		})
		if !p.running() || flushed {
			t.Error("it did not wait for the commit")
		}
		let()
		if n, err := p.wait(); n != 11 || err != nil {
			t.Error(n, err)
		}
		w.wantStored("x", 11, 2)
		w.want(bg, "x.Change", 12)
		_, err := w.call(bg, "x.Read", func(ctx context.Context, o *Thing) error { return inside(ctx).Flush(ctx) })
		w.must(err)
		w.wantStored("x", 12, 3) // what others changed
		_, err = w.call(bg, "x.Read", func(ctx context.Context, o *Thing) error { return inside(ctx).Flush(ctx) })
		w.must(err)
		w.wantStored("x", 12, 3)
	})
}

// A Flush that fails says so; the object lives on ahead of the store, and is saved later.
func TestFlushAndAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Second)))
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.Commit {
				return memstore.Fault{Err: object.ErrNotCommitted}
			}
			return memstore.Fault{}
		})
		var flushed error
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			o.N = 5
			flushed = inside(ctx).Flush(ctx)
			return nil
		})
		w.must(err)
		isFault(t, flushed, fault.StoreFailed, fault.NotExecuted)
		w.store.Fail(nil)
		time.Sleep(2 * time.Second)
		w.wantStored("x", 5, 1)

		let := w.hold()
		defer let()
		_, err = w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
			o.N = 6
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			flushed = inside(ctx).Flush(short)
			return nil
		})
		w.must(err)
		isFault(t, flushed, fault.Deadline, fault.OutcomeUnknown)
	})
}

func TestFlushIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []any
	}{
		{"durable", []any{kept}},
		{"volatile", []any{kept, object.WithDurability(object.Volatile)}},
		{"no store", nil},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t, c.opts...)
			var late context.Context
			_, err := w.call(bg, "Kept/x.Change", func(ctx context.Context, o *Thing) error {
				late = ctx
				isFault(t, inside(ctx).Flush(ctx), fault.Invalid, fault.NotExecuted)
				return nil
			})
			w.must(err)
			isFault(t, inside(late).Flush(bg), fault.Invalid, fault.NotExecuted)
		})
	}
	bubble(t, "too late", func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Second)))
		var late context.Context
		_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error { late = ctx; return nil })
		w.must(err)
		isFault(t, inside(late).Flush(bg), fault.Invalid, fault.NotExecuted)
	})
}

// A crash loses no change of a periodic object that was answered longer ago than the
// interval, a commit, and the longest method before it; and the event measures it.
func TestLossWindow(t *testing.T) {
	const (
		interval = time.Second
		longest  = 100 * time.Millisecond // a method
		slowest  = 50 * time.Millisecond  // a commit
		promised = interval + longest + 2*slowest
	)
	for seed := range uint64(12) {
		bubble(t, fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			var (
				mu       sync.Mutex
				measured time.Duration
				answered = map[string][]time.Time{} // when N of an object became 1, 2, ...
			)
			chance := func(n time.Duration) time.Duration {
				mu.Lock()
				defer mu.Unlock()
				return time.Duration(r.Int64N(int64(n)))
			}
			w := start(t, kept, object.WithDurability(object.Periodic(interval)), func(w *world, cfg *Config) {
				cfg.Listener.CommitDone = func(e event.CommitDone) {
					mu.Lock()
					defer mu.Unlock()
					measured = max(measured, e.Window)
				}
			})
			w.store.Fail(func(op memstore.Op) memstore.Fault {
				if op.Kind != memstore.Commit {
					return memstore.Fault{}
				}
				done := make(chan struct{})
				time.AfterFunc(chance(slowest), func() { close(done) })
				return memstore.Fault{Wait: done}
			})
			ctx, crash := within(10*time.Second + chance(5*time.Second))
			var callers sync.WaitGroup
			for i := range 6 {
				id := fmt.Sprintf("o%d", i)
				often := time.Second >> i
				callers.Go(func() {
					for ctx.Err() == nil {
						_, err := w.call(ctx, id+".Change", func(ctx context.Context, o *Thing) error {
							time.Sleep(chance(longest))
							o.N++
							return nil
						})
						if err == nil {
							mu.Lock()
							answered[id] = append(answered[id], time.Now())
							mu.Unlock()
						}
						time.Sleep(chance(2 * often))
					}
				})
			}
			<-ctx.Done()
			at := time.Now()
			w.Drop(allShards(), "crashed")
			stored := map[string]int64{}
			for i := range 6 {
				id := fmt.Sprintf("o%d", i)
				if r := w.stored(id); r.Data != nil {
					state, err := decodeState(r.Data)
					w.must(err)
					stored[id] = state.(*wrapperspb.Int64Value).Value
				}
			}
			callers.Wait()
			crash()
			mu.Lock()
			defer mu.Unlock()
			var lost time.Duration
			for id, times := range answered {
				for _, when := range times[min(stored[id], int64(len(times))):] {
					lost = max(lost, at.Sub(when))
				}
			}
			if lost > promised || measured > promised {
				t.Errorf("a crash lost changes %v old, and %v were measured; promised are %v", lost, measured, promised)
			}
			if measured < interval/2 {
				t.Errorf("only %v were measured: the measure does not work, or nothing was put off", measured)
			}
		})
	}
}

// unsaved makes a call and returns whether its answer says that not all is stored.
func (w *world) unsaved(ctx context.Context, target string, do ...script) bool {
	w.t.Helper()
	ref, method := w.parse(target)
	if len(do) > 0 {
		ctx = context.WithValue(ctx, scriptKey{ref.Type, ref.ID, method}, do[0])
	}
	reply, _ := w.send(ctx, object.Call{Ref: ref, Method: method})
	return reply.Unsaved
}

func (w *world) wantUnsaved(want bool, target string, do ...script) {
	w.t.Helper()
	if got := w.unsaved(bg, target, do...); got != want {
		w.t.Errorf("%s: unsaved is %v", target, got)
	}
}

// Answers of a periodic object say that they are ahead of the store, as long as they are.
func TestAnswersAheadOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Second)))
		w.wantUnsaved(false, "x.Read")
		w.wantUnsaved(true, "x.Change")
		w.wantUnsaved(true, "x.Read") // which saw the change
		w.wantUnsaved(true, "x.Change", func(context.Context, *Thing) error { return errors.New("no") })
		time.Sleep(3 * time.Second)
		w.wantStored("x", 1, 1)
		w.wantUnsaved(false, "x.Read")

		flush := func(ctx context.Context, o *Thing) error { o.N++; return inside(ctx).Flush(ctx) }
		w.wantUnsaved(false, "x.Change", flush)
		w.wantStored("x", 2, 2)
		w.wantUnsaved(false, "x.Read")
		var let func()
		w.wantUnsaved(true, "x.Change", func(ctx context.Context, o *Thing) error {
			err := flush(ctx, o)
			let = w.hold()
			o.N++
			return err
		})
		w.wantUnsaved(true, "x.Read") // the save is on its way
		let()
		synctest.Wait()
		w.wantStored("x", 4, 4)
		w.wantUnsaved(false, "x.Read")
	})
}

// A method that has only begun may be seen, and has not been stored.
func TestAnswersInTheMiddleOfAMethod(t *testing.T) {
	for _, mode := range []object.Mode{object.Sequential, object.Concurrent} {
		synctest.Test(t, func(t *testing.T) {
			w := start(t, kept, object.WithDurability(object.Periodic(time.Hour)), object.WithMode(mode))
			var within, beside bool
			_, err := w.call(bg, "x.Change", func(ctx context.Context, o *Thing) error {
				atomic.AddInt64(&o.N, 1)
				within = w.unsaved(ctx, "x.Read")
				if mode == object.Concurrent {
					beside = w.unsaved(bg, "x.Read")
				}
				return inside(ctx).Flush(ctx)
			})
			w.must(err)
			if !within || beside != (mode == object.Concurrent) {
				t.Errorf("mode %v: within its chain %v, beside it %v", mode, within, beside)
			}
			w.wantUnsaved(false, "x.Read")
			_, err = w.call(bg, "x.Read", func(ctx context.Context, o *Thing) error { // others that only read change nothing
				within = w.unsaved(ctx, "x.Look")
				return nil
			})
			w.must(err)
			if within {
				t.Errorf("mode %v: while others read", mode)
			}
		})
	}
}

// Answers of objects that are stored before they answer, or never, say nothing.
func TestAnswersThatSayNothingOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, d := range []object.Durability{object.Durable, object.Volatile} {
			w := start(t, kept, object.WithDurability(d))
			for _, target := range []string{"x.Change", "x.Read", "x.Change"} {
				w.wantUnsaved(false, target)
			}
		}
	})
}
