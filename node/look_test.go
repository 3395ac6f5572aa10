package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

func (w *world) look(typ, id string) *peer.Sight {
	w.t.Helper()
	s, err := w.Look(bg, object.Ref{Type: typ, ID: id}, true)
	w.must(err)
	return s
}

// An object is seen as it is: in memory, in the store, or nowhere.
func TestLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		if s := w.look("Kept", "a"); s.Live || s.Shard != w.shardOf("a") || s.Epoch != 1 || s.Durability != "Durable" || s.Mode != "Sequential" || s.State != nil || !strings.Contains(s.NoState, "no stored state") {
			t.Errorf("before it is there: %+v", s)
		}
		time.Sleep(time.Second)
		born := time.Now()
		w.want(bg, "a.Change", 1)
		time.Sleep(time.Second)
		_, err := w.call(asClient("gate/7"), "a.Change")
		w.must(err)
		used := time.Now()
		time.Sleep(time.Second)
		s := w.look("Kept", "a")
		if !s.Live || s.Phase != "live" || s.Version != 2 || s.Unsaved || !s.Created.Equal(born) || !s.LastUsed.Equal(used) || string(s.State) != `{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"2"}` || s.NoState != "" {
			t.Errorf("%+v %s", s, s.State)
		}
		recent := ""
		for _, c := range s.Recent {
			recent += fmt.Sprintln(c.Method, c.Caller, c.Outcome)
		}
		if recent != "Change client gate/7 ok\nChange program ok\n" || !s.Recent[0].At.Equal(used) {
			t.Errorf("%s%+v", recent, s.Recent)
		}
		w.idle()
		if s := w.look("Kept", "a"); s.Live || s.Version != 2 || !strings.Contains(string(s.State), `"2"`) {
			t.Errorf("stored: %+v %s", s, s.State)
		}
		w.want(bg, "Thing/x.Read", 0)
		if s := w.look("Thing", "x"); !s.Live || s.Durability != "Volatile" || s.State != nil || !strings.Contains(s.NoState, "keeps no state") {
			t.Errorf("without a state: %+v", s)
		}
		for _, c := range []struct {
			ref  object.Ref
			kind fault.Kind
		}{{object.Ref{Type: "None", ID: "a"}, fault.UnknownType}, {object.Ref{Type: "Kept"}, fault.Invalid}, {object.Ref{Type: "Kept", ID: "other:1/x"}, fault.WrongHolder}} {
			if _, err := w.Look(bg, c.ref, true); fault.KindOf(err) != c.kind {
				t.Errorf("%v: %v", c.ref, err)
			}
		}
	})
}

// Looking waits for nobody: who is inside and who waits is told, and a state that would
// have to be asked for is not.
func TestLookAtABusyObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		let := w.blocked("a")
		second := w.start(asClient("gate/9"), "Kept/a.Read")
		synctest.Wait()
		began := time.Now()
		time.Sleep(time.Second)
		s := w.look("Kept", "a")
		if len(s.Running) != 1 || s.Running[0].Method != "Change" || s.Queued != 1 || len(s.Queue) != 1 || s.Queue[0].Method != "Read" || s.Queue[0].Caller != "client gate/9" || !s.Queue[0].At.Equal(began) {
			t.Errorf("%+v", s)
		}
		if s.State != nil || !strings.Contains(s.NoState, "a call is inside") {
			t.Errorf("%s, %q", s.State, s.NoState)
		}
		let()
		second.wait()
		if s := w.look("Kept", "a"); !strings.Contains(string(s.State), `"1"`) || len(s.Running) != 0 || s.Queued != 0 {
			t.Errorf("%+v %s", s, s.State)
		}
	})
}

// Code that never ends holds up who looks no longer than they have time.
func TestLookWhileToDataHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		w.want(bg, "Kept/a.Change", 1)
		let := make(chan struct{})
		w.set(func(h *hooks) { h.toData = func(*Thing) (proto.Message, error) { <-let; return nil, errUser } })
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		s, err := w.Look(ctx, object.Ref{Type: "Kept", ID: "a"}, true)
		if err != nil || s.State != nil || !strings.Contains(s.NoState, "ToData") {
			t.Errorf("%+v, %v", s, err)
		}
		close(let)
		synctest.Wait()
		w.set(func(h *hooks) { h.toData = func(*Thing) (proto.Message, error) { panic("oh") } })
		if s := w.look("Kept", "a"); s.State != nil || !strings.Contains(s.NoState, "panicked") {
			t.Errorf("%+v", s)
		}
		w.set(func(h *hooks) { h.toData = nil })
		w.want(bg, "Kept/a.Read", 1) // it lives on
	})
}

// Calls of an object that is looked at are remembered, however many others come, for as
// long as it is.
func TestLookedCallsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		w.look("Thing", "a")
		w.want(bg, "Thing/a.Read", 0)
		for i := range 2 * desks * deskRecent {
			w.want(bg, fmt.Sprintf("Thing/o%d.Read", i%100), 0)
		}
		if s := w.look("Thing", "a"); len(s.Recent) != 1 {
			t.Errorf("%+v", s.Recent)
		}
		for range 3 * lookedCalls {
			w.want(bg, "Thing/a.Read", 0)
		}
		if s := w.look("Thing", "a"); len(s.Recent) != lookedCalls {
			t.Errorf("%d calls", len(s.Recent))
		}
		for i := range 2 * desks * deskLooked {
			w.look("Thing", fmt.Sprint("p", i))
		}
		for i := range w.census.count.Load().desks {
			if n := len(w.census.count.Load().desks[i].looked); n > deskLooked {
				t.Errorf("%d objects are remembered at one desk", n)
			}
		}
	})
}

// Pages have every object once, in order, whatever their size.
func TestLiveObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		for i := range 50 {
			w.want(bg, fmt.Sprintf("Thing/o%02d.Read", i), 0)
			w.want(bg, fmt.Sprintf("Kept/o%02d.Read", i), 0)
		}
		w.want(bg, "Thing/other.Read", 0)
		w.want(bg, "Thing/n:1/pinned.Read", 0)
		for _, c := range []struct {
			q    peer.LiveQuery
			want int
		}{
			{peer.LiveQuery{Limit: 7}, 102}, {peer.LiveQuery{Limit: 1000}, 102}, {peer.LiveQuery{Type: "Kept", Limit: 1}, 50},
			{peer.LiveQuery{Type: "Thing", Prefix: "o1", Limit: 3}, 10}, {peer.LiveQuery{Prefix: "ot", Limit: 3}, 1}, {peer.LiveQuery{Type: "None", Limit: 3}, 0},
			{peer.LiveQuery{After: object.Ref{Type: "Thing", ID: "o48"}, Limit: 9}, 2},
		} {
			seen := 0
			for q := c.q; ; {
				list, err := w.LiveObjects(bg, q)
				w.must(err)
				for _, o := range list {
					if compareRefs(o.Ref, q.After) <= 0 {
						t.Fatalf("%v behind %v", o.Ref, q.After)
					}
					q.After = o.Ref
				}
				seen += len(list)
				if len(list) < q.Limit {
					break
				}
			}
			if seen != c.want {
				t.Errorf("%+v: %d objects", c.q, seen)
			}
		}
		for _, limit := range []int{0, -1, peer.MaxLive + 1} {
			if _, err := w.LiveObjects(bg, peer.LiveQuery{Limit: limit}); fault.KindOf(err) != fault.Invalid {
				t.Errorf("%d: %v", limit, err)
			}
		}
	})
}

// An operator's end of an object loses nothing, and cuts nobody off.
func TestDeactivate(t *testing.T) {
	for _, keep := range []object.Durability{object.Durable, object.Periodic(time.Hour)} {
		t.Run(keep.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, kept, object.WithDurability(keep))
				ref := object.Ref{Type: "Kept", ID: "a"}
				if was, err := w.Deactivate(bg, ref, false); was || err != nil {
					t.Errorf("one that is not live: %v, %v", was, err)
				}
				w.want(bg, "a.Change", 1)
				let := w.blocked("a")
				ended := begin(func() (int64, error) { _, err := w.Deactivate(bg, ref, false); return 0, err })
				if !ended.running() {
					t.Fatal("it did not wait for the call inside")
				}
				let()
				_, err := ended.wait()
				w.must(err)
				if n := w.NumObjects(); n != 0 {
					t.Errorf("%d objects are live", n)
				}
				w.want(bg, "a.Read", 2)
				if !strings.Contains(w.said(), "deactivated by an operator") {
					t.Error(w.said())
				}
			})
		})
	}
}

// An object whose state cannot be stored stays.
func TestDeactivateIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept, object.WithDurability(object.Periodic(time.Hour)))
		ref := object.Ref{Type: "Kept", ID: "a"}
		w.want(bg, "a.Change", 1)
		let := w.hold()
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		was, err := w.Deactivate(ctx, ref, true)
		if err == nil || !was || w.NumObjects() != 1 {
			t.Errorf("the store hangs: %v, %v", was, err)
		}
		let()
		w.want(bg, "a.Read", 1)
		w.set(func(h *hooks) { h.toData = func(*Thing) (proto.Message, error) { return nil, errUser } })
		w.want(bg, "a.Change", 2)
		if _, err := w.Deactivate(bg, ref, true); fault.OutcomeOf(err) != fault.NotExecuted || !strings.Contains(err.Error(), "it stays active") {
			t.Errorf("ToData fails: %v", err)
		}
		w.set(func(h *hooks) { h.toData = nil })
		w.want(bg, "a.Read", 2)
	})
}

// A state that is only in memory is not given up without being asked to.
func TestDeactivateTheOnlyCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		w.want(bg, "Kept/a.Change", 1)
		ref := object.Ref{Type: "Kept", ID: "a"}
		if _, err := w.Deactivate(bg, ref, false); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "would be lost") {
			t.Error(err)
		}
		w.want(bg, "Kept/a.Read", 1)
		_, err := w.Deactivate(bg, ref, true)
		w.must(err)
		w.want(bg, "Kept/a.Read", 0)
	})
}
