package node

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// adopt is what coordination does about a store that was put back.
func (w *world) adopt() {
	w.t.Helper()
	w.must(w.Adopt(bg))
	w.epoch++
	w.open()
}

// putBack puts the store back and waits until the node has noticed.
func (w *world) putBack(past memstore.Snapshot) {
	w.t.Helper()
	w.store.Restore(past)
	began := time.Now()
	<-w.Rewound()
	if took := time.Since(began); took > historyEvery {
		w.t.Errorf("noticed after %v", took)
	}
}

// The store is put back: what lives here of it is void, calls that run are answered as
// Fenced, no other is let in before the shards are opened anew, and then all is as the
// store has it. What is pinned to this node goes on.
func TestStoreIsPutBack(t *testing.T) {
	bubble(t, "durable", func(t *testing.T) {
		w := start(t, kept)
		w.want(bg, "x.Change", 1)
		w.want(bg, "x.Change", 2)
		w.want(bg, "Thing/n:1/pinned.Change", 1)
		past := w.store.Snapshot()
		w.want(bg, "x.Change", 3)
		w.want(bg, "y.Change", 1)
		running := w.start(bg, "z.Change", untilCancelled(t, fault.Fenced))
		synctest.Wait()
		w.putBack(past)
		_, err := running.wait()
		isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
		if said := w.said(); strings.Count(said, "may lack what it has acknowledged") != 1 || !strings.Contains(said, "put back 1 times") {
			t.Error(said)
		}
		for range 3 {
			_, err := w.call(bg, "x.Read")
			isFault(t, err, fault.WrongHolder, fault.NotExecuted)
			time.Sleep(10 * time.Second)
		}
		if said := w.said(); strings.Count(said, "may lack what it has acknowledged") != 1 {
			t.Error("it is said again:", said)
		}
		w.want(bg, "Thing/n:1/pinned.Change", 2)
		w.adopt()
		w.want(bg, "x.Read", 2)
		w.want(bg, "y.Read", 0)
		w.want(bg, "x.Change", 3)
		w.wantStored("x", 3, 3)
		w.want(bg, "Thing/n:1/pinned.Change", 3)
		rewound := w.Rewound()
		time.Sleep(time.Minute)
		if isClosed(rewound) {
			t.Error("it is noticed again")
		}
		w.putBack(memstore.Snapshot{}) // once more
		w.adopt()
		w.want(bg, "x.Change", 1)
	})
	bubble(t, "periodic", func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Hour)))
		w.want(bg, "x.Change", 1)
		w.must(w.SaveAllObjects(bg))
		past := w.store.Snapshot()
		w.want(bg, "x.Change", 2)
		w.putBack(past)
		w.adopt()
		w.want(bg, "x.Read", 1)
		w.wantStored("x", 1, 1)
	})
}

// What the store answers tells before the next look that it was put back.
func TestPutBackIsHeardOf(t *testing.T) {
	for what, do := range map[string]func(w *world) error{
		"a commit": func(w *world) error { _, err := w.call(bg, "x.Change"); return err },
		"a load":   func(w *world) error { _, err := w.call(bg, "new.Read"); return err },
		"a stamp": func(w *world) error {
			_, err := w.Open(bg, w.owner, w.trusted.Load, []Claim{{Shard: 1, Epoch: 1}})
			return err
		},
		"a hook": func(w *world) error {
			_, err := w.call(bg, "x.Change", adds(new(table).insert("a")))
			return err
		},
	} {
		bubble(t, what, func(t *testing.T) {
			w := start(t, kept)
			w.want(bg, "x.Change", 1)
			time.Sleep(10*time.Second + historyEvery/2) // between two looks
			w.store.Restore(w.store.Snapshot())
			if err := do(w); !errors.Is(err, object.ErrOtherHistory) && fault.KindOf(err) != fault.Fenced { // who was shut first
				t.Error(err)
			}
			synctest.Wait()
			if !isClosed(w.Rewound()) {
				t.Error("not noticed at once")
			}
		})
	}
}

// A save was on its way when the store was put back, and its answer is lost: whether it
// arrives before the fresh stamp or after it, nobody was told that it counts, and what
// is loaded afterwards never changes under its reader.
func TestSaveOnItsWayWhenPutBack(t *testing.T) {
	for _, early := range []bool{true, false} {
		bubble(t, "early="+map[bool]string{true: "yes", false: "no"}[early], func(t *testing.T) {
			w := start(t, kept)
			w.want(bg, "x.Change", 1)
			past := w.store.Snapshot()
			w.store.Fail(func(op memstore.Op) memstore.Fault {
				if op.Kind == memstore.Commit {
					return memstore.Fault{Err: errors.New("the answer is lost"), Held: true}
				}
				return memstore.Fault{}
			})
			lost := w.start(bg, "x.Change")
			synctest.Wait()
			w.putBack(past)
			_, err := lost.wait()
			isFault(t, err, fault.Fenced, fault.OutcomeUnknown)
			want := int64(1)
			if early {
				w.must(w.Adopt(bg))
				w.store.Land()
				want = 2
			}
			w.store.Fail(nil)
			w.adopt()
			w.want(bg, "x.Read", want)
			w.store.Land()
			time.Sleep(time.Minute)
			w.want(bg, "x.Read", want)
			w.want(bg, "x.Change", want+1)
			w.wantStored("x", want+1, uint64(want+1))
		})
	}
}

// Nothing is opened for a history that was not adopted, also where somebody else who
// shares the store has adopted it, and where it changes while shards are being stamped.
func TestNothingIsOpenedBeforeItIsAdopted(t *testing.T) {
	bubble(t, "shared", func(t *testing.T) {
		w := start(t, kept)
		w.putBack(w.store.Snapshot())
		now, err := w.store.History(bg)
		w.must(err)
		w.must(w.store.AdoptHistory(bg, now))
		if _, err := w.Open(bg, w.owner, w.trusted.Load, []Claim{{Shard: 1, Epoch: 9}}); !errors.Is(err, object.ErrOtherHistory) {
			t.Error(err)
		}
		if _, err := w.Confirm(bg, w.owner, []Claim{{Shard: 1, Epoch: 9}}); !errors.Is(err, object.ErrOtherHistory) {
			t.Error(err)
		}
		if f := w.store.Fence(1); f.Epoch != w.epoch {
			t.Errorf("stamped: %+v", f)
		}
		w.adopt()
		w.want(bg, "x.Change", 1)
	})
	bubble(t, "while stamping", func(t *testing.T) {
		w := start(t, kept)
		arrived := make(chan struct{})
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind != memstore.Stamp {
				return memstore.Fault{}
			}
			return memstore.Fault{Wait: arrived}
		})
		opening := begin(func() (int64, error) {
			_, err := w.Open(bg, w.owner, w.trusted.Load, []Claim{{Shard: 1, Epoch: 2}})
			return 0, err
		})
		synctest.Wait()
		w.putBack(w.store.Snapshot())
		now, err := w.store.History(bg)
		w.must(err)
		w.must(w.store.AdoptHistory(bg, now)) // by somebody else
		close(arrived)
		if _, err := opening.wait(); !errors.Is(err, object.ErrOtherHistory) {
			t.Error(err)
		}
		for i := range shards {
			if !w.slots[i].isShut() {
				t.Errorf("shard %d is open", i)
			}
		}
		w.store.Fail(nil)
		w.epoch = 2
		w.adopt()
		w.want(bg, "x.Change", 1)
	})
	bubble(t, "before the first", func(t *testing.T) {
		w := start(t, func(w *world, _ *Config) { w.store, w.epoch = memstore.New(), 0 })
		w.store.Restore(memstore.Snapshot{})
		time.Sleep(time.Minute)
		if isClosed(w.Rewound()) {
			t.Error("there is nothing that it went back from")
		}
		w.store.Fail(func(op memstore.Op) memstore.Fault {
			if op.Kind == memstore.History {
				return memstore.Fault{Err: errors.New("busy")}
			}
			return memstore.Fault{}
		})
		if _, err := w.Open(bg, w.owner, w.trusted.Load, []Claim{{Shard: 1, Epoch: 1}}); err == nil {
			t.Error("opened without a history")
		}
		w.store.Fail(nil)
		w.epoch = 1
		w.open()
		w.want(bg, "x.Change", 1)
	})
}

// While the store is away nothing is concluded; an Adopt that fails leaves all shut, and
// is tried again.
func TestStoreIsAwayWhenPutBack(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := start(t, kept)
		w.want(bg, "x.Change", 1)
		past := w.store.Snapshot()
		w.want(bg, "x.Change", 2)
		away := func(memstore.Op) memstore.Fault { return memstore.Fault{Err: object.ErrNotCommitted} }
		w.store.Fail(away)
		time.Sleep(time.Minute)
		w.want(bg, "x.Read", 2)
		w.store.Fail(nil)
		w.putBack(past)
		w.store.Fail(away)
		if err := w.Adopt(bg); err == nil {
			t.Error("adopted what does not answer")
		}
		if !isClosed(w.Rewound()) {
			t.Error("it is forgotten that the store was put back")
		}
		w.store.Fail(nil)
		w.adopt()
		w.want(bg, "x.Read", 1)
	})
}
