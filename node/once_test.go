package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
	"github.com/xiaonanln/goverse/object/memstore"
)

// once calls with an id.
func (w *world) once(ctx context.Context, id, target string, do ...script) (int64, error) {
	ref, method := w.parse(target)
	if len(do) > 0 {
		ctx = context.WithValue(ctx, scriptKey{ref.Type, ref.ID, method}, do[0])
	}
	return number(w.send(ctx, object.Call{Ref: ref, Method: method, ID: id}))
}

func (w *world) wantOnce(id, target string, want int64) {
	w.t.Helper()
	if got, err := w.once(bg, id, target); err != nil || got != want {
		w.t.Errorf("%s under %s is %d, %v; want %d", target, id, got, err, want)
	}
}

func TestACallWithAnIDRunsOnce(t *testing.T) {
	bubble(t, "again", func(t *testing.T) {
		w := start(t, kept)
		w.wantOnce("one", "a.Change", 1)
		w.wantOnce("one", "a.Change", 1)
		w.wantOnce("two", "a.Change", 2)
		w.wantOnce("one", "a.Change", 1)
		w.wantStored("a", 2, 2)
	})
	bubble(t, "after its activation", func(t *testing.T) {
		w := start(t, kept)
		w.wantOnce("one", "a.Change", 1)
		w.epoch++
		w.open()
		w.wantOnce("one", "a.Change", 1)
		w.wantStored("a", 1, 1)
	})
	bubble(t, "its failure", func(t *testing.T) {
		w := start(t, kept)
		fails := func(context.Context, *Thing) error { return errUser }
		_, err := w.once(bg, "one", "a.Change", fails)
		isFault(t, err, fault.Failed, fault.Executed)
		_, again := w.once(bg, "one", "a.Change")
		isFault(t, again, fault.Failed, fault.Executed)
		if again.Error() != err.Error() {
			t.Errorf("%v, then %v", err, again)
		}
	})
	bubble(t, "joined", func(t *testing.T) {
		w, b := start(t, kept), newBlock()
		first := begin(func() (int64, error) { return w.once(bg, "one", "a.Change", b.run) })
		<-b.entered
		second := begin(func() (int64, error) { return w.once(bg, "one", "a.Change") })
		if !second.running() {
			t.Error("the second did not join")
		}
		close(b.let)
		for _, p := range []*pending{first, second} {
			if n, err := p.wait(); n != 1 || err != nil {
				t.Error(n, err)
			}
		}
	})
}

// An answer, an error too, says whether its call has run just now.
func TestReplayed(t *testing.T) {
	ask := func(w *world, want bool, call object.Call) {
		w.t.Helper()
		if p, err := w.Call(bg, call); p.Replayed != want || fault.OutcomeOf(err) != fault.Executed {
			w.t.Errorf("%v is replayed: %v, %v", call.ID, p.Replayed, err)
		}
	}
	call := func(id string) object.Call {
		return object.Call{Ref: object.Ref{Type: "Kept", ID: "a"}, Method: "Change", ID: id}
	}
	bubble(t, "recorded", func(t *testing.T) {
		w := start(t, kept)
		ask(w, false, call("one"))
		ask(w, true, call("one"))
		w.epoch++
		w.open()
		ask(w, true, call("one"))
		ask(w, false, call("two"))
		ask(w, false, call(""))
	})
	bubble(t, "joined, and failed", func(t *testing.T) {
		w := start(t, kept)
		ref := object.Ref{Type: "Kept", ID: "a"}
		fails := context.WithValue(bg, scriptKey{ref.Type, ref.ID, "Change"}, script(func(context.Context, *Thing) error {
			time.Sleep(time.Second)
			return errUser
		}))
		first := make(chan object.Payload, 1)
		go func() {
			p, _ := w.Call(fails, call("one"))
			first <- p
		}()
		synctest.Wait()
		ask(w, true, call("one"))
		if p := <-first; p.Replayed {
			t.Error("who ran it is told that somebody else did")
		}
	})
	bubble(t, "of another call", func(t *testing.T) {
		w := start(t, kept)
		ask(w, false, call("one"))
		other := call("one")
		other.Method = "Other"
		p, err := w.Call(bg, other)
		if isFault(t, err, fault.CallIDReused, fault.NotExecuted); p.Replayed {
			t.Error("a refusal is no answer")
		}
	})
}

// A crash at each boundary, and whatever became of the commit: the call counts once.
func TestCrashes(t *testing.T) {
	lost := errors.New("the answer was lost")
	for name, f := range map[string]memstore.Fault{
		"before the commit":                    {Err: object.ErrNotCommitted},
		"the commit lands, its answer is lost": {Err: lost, Applied: true},
		"the commit lands much later":          {Err: lost, Held: true},
	} {
		bubble(t, name, func(t *testing.T) {
			w := start(t, kept)
			w.wantOnce("zero", "a.Change", 1)
			w.store.Fail(func(op memstore.Op) memstore.Fault {
				if op.Kind == memstore.Commit {
					return f
				}
				return memstore.Fault{}
			})
			ctx, cancel := within(time.Second)
			defer cancel()
			if _, err := w.once(ctx, "one", "a.Change", w.sends("b.Change")); err == nil {
				t.Error("it was answered without its commit")
			}
			w.Drop(allShards(), "a crash")
			synctest.Wait()
			w.epoch++
			w.store.Fail(nil)
			w.open()
			w.store.Land()
			w.wantOnce("one", "a.Change", 2)
			w.wantOnce("one", "a.Change", 2)
			w.wantStored("a", 2, 2)
			time.Sleep(time.Minute)
			if name != "the commit lands, its answer is lost" { // the second run sends nothing
				if v := w.stored("b").Version; v != 0 {
					t.Errorf("the Send of a run that does not count arrived: %d", v)
				}
			} else {
				w.wantStored("b", 1, 1)
			}
			w.settleSends()
		})
	}
}

func TestCallIDsThatAreRefused(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := start(t, kept)
		minted := object.NewCallID()
		w.wantOnce(minted, "a.Change", 1)
		ref, _ := w.parse("a")
		refused := func(call object.Call, kind fault.Kind) {
			t.Helper()
			call.Ref = ref
			_, err := w.Call(bg, call)
			isFault(t, err, kind, fault.NotExecuted)
		}
		refused(object.Call{Method: "Other", ID: minted}, fault.CallIDReused)
		refused(object.Call{Method: "Change", ID: minted, Payload: object.OfMessage(wrapperspb.String("another"))}, fault.CallIDReused)
		refused(object.Call{Method: "Change", ID: strings.Repeat("x", 513)}, fault.Invalid)
		refused(object.Call{Op: object.OpSettle}, fault.Invalid)
		if _, err := w.Call(bg, object.Call{Op: object.OpSettle, Ref: ref, ID: minted, IDIfKept: true}); err != nil {
			t.Error(err)
		}
		for _, op := range []object.Op{object.OpCreate, object.OpDelete} { // to which an id is nothing
			if _, err := w.Call(bg, object.Call{Op: op, Ref: object.Ref{Type: "Thing", ID: "a"}, ID: minted, IDIfKept: true}); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(maxCallIDAge)
		w.wantOnce(minted, "a.Change", 1)
		time.Sleep(time.Second)
		refused(object.Call{Method: "Change", ID: minted}, fault.ExpiredCallID)
		ahead := make(chan string)
		time.AfterFunc(maxCallIDAhead+time.Second, func() { ahead <- object.NewCallID() })
		id := <-ahead
		w.wantOnce(id, "a.Change", 2)
		w.wantStored("a", 2, 2)
	})
	bubble(t, "from the future", func(t *testing.T) {
		w := start(t, kept)
		id := object.NewCallID()
		future := "9" + id[1:]
		_, err := w.once(bg, future, "a.Change")
		isFault(t, err, fault.ExpiredCallID, fault.NotExecuted)
		_, err = w.once(bg, id, "a.Change", func(ctx context.Context, o *Thing) error { return w.delete(ctx, "a") })
		isFault(t, err, fault.Failed, fault.Executed)
	})
	for name, setup := range map[string][]any{
		"no store":         nil,
		"a volatile type":  {kept, object.WithDurability(object.Volatile)},
		"a periodic type":  {kept, object.WithDurability(object.Periodic(time.Second))},
		"a simpler store":  {func(w *world, _ *Config) { w.provider = struct{ object.FencedProvider }{memstore.New()} }},
		"a simplest store": {func(w *world, _ *Config) { w.provider = struct{ object.PersistenceProvider }{memstore.New()} }},
	} {
		bubble(t, name, func(t *testing.T) {
			w := start(t, setup...)
			ran := false
			do := func(context.Context, *Thing) error { ran = true; return nil }
			_, err := w.once(bg, "one", "Kept/a.Change", do)
			if name == "no store" {
				_, err = w.once(bg, "one", "Thing/a.Change", do)
			}
			isFault(t, err, fault.Invalid, fault.NotExecuted)
			if ran || w.NumObjects() > 0 {
				t.Error("something ran")
			}
		})
	}
}

func TestSettle(t *testing.T) {
	settle := func(w *world, id string) (int64, error) {
		ref, _ := w.parse("a")
		return number(w.Call(bg, object.Call{Op: object.OpSettle, Ref: ref, ID: id}))
	}
	bubble(t, "a call that ran", func(t *testing.T) {
		w := start(t, kept)
		w.wantOnce("one", "a.Change", 1)
		if n, err := settle(w, "one"); n != 1 || err != nil {
			t.Error(n, err)
		}
	})
	bubble(t, "a call that runs", func(t *testing.T) {
		w, b := start(t, kept), newBlock()
		p := begin(func() (int64, error) { return w.once(bg, "one", "a.Change", b.run) })
		<-b.entered
		s := begin(func() (int64, error) { return settle(w, "one") })
		if !s.running() {
			t.Error("it was settled while it ran")
		}
		close(b.let)
		w.must(second(p.wait()))
		if n, err := s.wait(); n != 1 || err != nil {
			t.Error(n, err)
		}
	})
	bubble(t, "a call that never ran", func(t *testing.T) {
		w := start(t, kept)
		_, err := settle(w, "one")
		isFault(t, err, fault.CallSettled, fault.NotExecuted)
		for range 2 {
			_, err = w.once(bg, "one", "a.Change")
			isFault(t, err, fault.CallSettled, fault.NotExecuted)
			w.epoch++
			w.open()
		}
		w.wantOnce("two", "a.Change", 1)
	})
}

// A method that runs again gets the results of the calls that it made the first time.
func TestNestedCallsRunOnce(t *testing.T) {
	bubble(t, "after a crash", func(t *testing.T) {
		w := start(t, kept)
		runs := 0
		method := func(ctx context.Context, o *Thing) error {
			runs++
			for _, to := range []string{"b.Change", "b.Change", "c.Change"} {
				if _, err := w.call(ctx, to); err != nil {
					return err
				}
			}
			o.N++
			if runs == 1 {
				panic("a crash")
			}
			return nil
		}
		_, err := w.once(bg, "one", "a.Change", method)
		isFault(t, err, fault.Panicked, fault.Executed)
		if n, err := w.once(bg, "one", "a.Change", method); n != 1 || err != nil {
			t.Error(n, err)
		}
		w.wantStored("a", 1, 1)
		w.wantStored("b", 2, 2)
		w.wantStored("c", 1, 1)
	})
	bubble(t, "in doubt", func(t *testing.T) {
		w := start(t, kept)
		doubt := true
		method := func(ctx context.Context, o *Thing) error {
			if _, err := w.call(ctx, "b.Change"); err != nil {
				return err
			}
			if o.N++; doubt {
				doubt = false
				return fmt.Errorf("around: %w", fault.New(fault.Indeterminate, "an answer was lost"))
			}
			return nil
		}
		_, err := w.once(bg, "one", "a.Change", method)
		isFault(t, err, fault.Indeterminate, fault.OutcomeUnknown)
		if n, err := w.once(bg, "one", "a.Change", method); n != 1 || err != nil {
			t.Error(n, err)
		}
		w.wantStored("b", 1, 1)
	})
	bubble(t, "out of time", func(t *testing.T) {
		w := start(t, kept)
		late := true
		method := func(ctx context.Context, o *Thing) error {
			if late {
				late = false
				<-ctx.Done()
				_, err := w.call(ctx, "b.Change") // does not even begin
				isFault(t, err, fault.Deadline, fault.NotExecuted)
				return err
			}
			o.N++
			return second(w.call(ctx, "b.Change"))
		}
		ctx, cancel := within(time.Second)
		defer cancel()
		if _, err := w.once(ctx, "one", "a.Change", method); fault.OutcomeOf(err) != fault.OutcomeUnknown {
			t.Error(err)
		}
		if n, err := w.once(bg, "one", "a.Change", method); n != 1 || err != nil {
			t.Error(n, err)
		}
		w.wantStored("b", 1, 1)
	})
	bubble(t, "in doubt of what an earlier run called", func(t *testing.T) {
		for _, swallows := range []bool{false, true} {
			w := start(t, kept)
			cut, late := true, true
			method := func(ctx context.Context, o *Thing) error {
				if cut { // the first run: it ends between the commit of its call and its own
					w.must(second(w.call(ctx, "b.Change")))
					cut = false
					return fault.New(fault.Indeterminate, "its node died")
				}
				if late { // this one's call does not get as far as its object
					var cancel context.CancelFunc
					ctx, cancel = context.WithCancel(ctx)
					cancel()
				}
				_, err := w.call(ctx, "b.Change")
				if err == nil {
					o.N++
				} else {
					isFault(t, err, fault.Canceled, fault.NotExecuted)
				}
				if swallows {
					return nil
				}
				return err
			}
			_, err := w.once(bg, "one", "a.Change", method)
			isFault(t, err, fault.Indeterminate, fault.OutcomeUnknown)
			_, err = w.once(bg, "one", "a.Change", method)
			isFault(t, err, fault.Indeterminate, fault.OutcomeUnknown)
			late = false
			if n, err := w.once(bg, "one", "a.Change", method); n != 1 || err != nil {
				t.Error(n, err)
			}
			w.wantStored("a", 1, 1)
			w.wantStored("b", 1, 1)
		}
	})
	bubble(t, "not to change whom the chain is inside of", func(t *testing.T) {
		w := start(t, kept)
		_, err := w.once(bg, "one", "a.Change", func(ctx context.Context, o *Thing) error {
			_, err := w.call(ctx, "b.Change", func(ctx context.Context, b *Thing) error {
				w.must(second(w.call(ctx, "a.Read")))
				_, err := w.call(ctx, "a.Other")
				isFault(t, err, fault.Invalid, fault.NotExecuted)
				b.N++
				return nil
			})
			w.must(err)
			_, err = w.call(ctx, "a.Other", func(_ context.Context, o *Thing) error { o.N += 10; return nil })
			return err
		})
		w.must(err)
		w.wantStored("a", 10, 1)
		w.wantStored("b", 1, 1)
	})
}

// A full memory of ids is no gap: others are looked for in the store.
func TestManyCallIDs(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := start(t, kept)
		const n = maxRecentCalls + 100
		for i := range n {
			w.wantOnce(fmt.Sprint("id-", i), "a.Change", int64(i+1))
		}
		for range 2 {
			for _, i := range []int{0, 1, 99, 100, n - 1} {
				w.wantOnce(fmt.Sprint("id-", i), "a.Change", int64(i+1))
			}
			w.epoch++
			w.open()
		}
		time.Sleep(resultRetention + 2*collectEvery)
		if _, err := w.store.FindCall(bg, object.Ref{Type: "Kept", ID: "a"}, "id-0"); !errors.Is(err, object.ErrNotStored) {
			t.Error("it is kept for ever:", err)
		}
	})
}

// While nothing is wrong, the store is asked for no record.
func TestACompleteMemoryOfIDsAsksNobody(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := start(t, kept)
		asked := map[memstore.OpKind]int{}
		synctest.Wait()
		w.store.Fail(func(op memstore.Op) memstore.Fault { asked[op.Kind]++; return memstore.Fault{} })
		for i := range 10 {
			w.wantOnce(fmt.Sprint(i), "a.Change", int64(i+1))
		}
		if asked[memstore.FindCall] != 0 || asked[memstore.RecentCalls] != 1 || asked[memstore.Commit] != 10 {
			t.Error(asked)
		}
	})
}
