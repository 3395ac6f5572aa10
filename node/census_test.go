package node

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xiaonanln/goverse/internal/callctx"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/internal/peer"
	"github.com/xiaonanln/goverse/object"
)

func (w *world) survey() *peer.Survey {
	w.t.Helper()
	s, err := w.Survey(context.Background())
	w.must(err)
	return s
}

func ofType(s *peer.Survey, name string) peer.TypeSurvey {
	for _, t := range s.Types {
		if t.Type == name {
			return t
		}
	}
	return peer.TypeSurvey{Type: name}
}

// asClient is the context of a client's call.
func asClient(id string) context.Context {
	return callctx.With(context.Background(), &callctx.Info{Caller: callctx.Caller{Client: true, ClientID: id}})
}

// Calls are counted by type, by who made them and by object, from the first survey on,
// and what names nothing of this node's is not.
func TestSurvey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.want(bg, "Thing/a.Change", 1)
		first := w.survey()
		if thing := ofType(first, "Thing"); first.Since == 0 || !first.Now.Equal(time.Now()) || first.Objects != 1 || thing.Objects != 1 || thing.Activations != 1 || thing.Calls != 0 {
			t.Fatalf("%+v", first)
		}
		nested := script(func(ctx context.Context, o *Thing) error {
			time.Sleep(3 * time.Millisecond)
			_, err := w.call(ctx, "Kept/b.Change")
			return err
		})
		for range 5 {
			_, err := w.call(asClient("gate/1"), "Thing/a.Other", nested)
			w.must(err)
		}
		_, err := w.call(bg, "Thing/a.Read", func(context.Context, *Thing) error { return errUser })
		if err == nil {
			t.Fatal("it did not fail")
		}
		for i := range 100 { // whatever clients invent
			_, _ = w.send(asClient("x"), object.Call{Ref: object.Ref{Type: fmt.Sprint("No", i), ID: "x"}, Method: "M"})
			_, _ = w.send(asClient("x"), object.Call{Ref: object.Ref{Type: "Thing", ID: fmt.Sprint("no", i)}, Method: fmt.Sprint("No", i)})
		}
		s := w.survey()
		if s.Since != first.Since || s.Age <= first.Age || s.Commits != 5 || s.Executions != 0 {
			t.Errorf("%+v", s)
		}
		if thing := ofType(s, "Thing"); thing.Calls != 106 || thing.Errors != 101 || thing.Objects != 1 {
			t.Errorf("%+v", thing)
		}
		if n := ofType(s, "Kept"); n.Calls != 5 || n.Errors != 0 || n.Activations != 1 || len(n.Latency) == 0 {
			t.Errorf("%+v", n)
		}
		edges := fmt.Sprint(s.Edges)
		if want := "[{client Thing 105} {Thing Kept 5} {program Thing 1}]"; edges != want {
			t.Errorf("%s, want %s", edges, want)
		}
		if len(s.Types) != 2 || fmt.Sprint(s.Top) != "[{Thing/a 6 0} {Kept/b 5 0}]" {
			t.Errorf("%d types, top %v", len(s.Types), s.Top)
		}
		long := 0
		for _, b := range ofType(s, "Thing").Latency {
			if b.UpTo >= 3*time.Millisecond && b.UpTo < 4*time.Millisecond {
				long += int(b.Calls)
			}
		}
		if long != 5 {
			t.Errorf("%d calls of 3 ms", long)
		}
	})
}

// A node that nobody surveys does not count, and who looks again begins anew.
func TestSurveyLapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		if w.census.count.Load() != nil {
			t.Fatal("it counts unasked")
		}
		first := w.survey()
		for range 5 {
			time.Sleep(surveyFor - time.Second)
			w.want(bg, "Thing/a.Read", 0)
			if s := w.survey(); s.Since != first.Since {
				t.Fatal("it began anew although it is watched")
			}
		}
		time.Sleep(surveyFor + time.Second)
		if w.census.count.Load() != nil {
			t.Error("it still counts")
		}
		if s := w.survey(); s.Since == first.Since || ofType(s, "Thing").Calls != 0 || ofType(s, "Thing").Activations != 1 {
			t.Errorf("%+v", s)
		}
		w.must(w.close())
		if _, err := w.Survey(bg); fault.KindOf(err) != fault.Draining || w.census.count.Load() != nil {
			t.Error("after its end:", err)
		}
	})
}

// Who waits for a turn is counted from before the first survey on, and leaves the count
// whichever way the wait ends.
func TestSurveyOfQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		let := w.blocked("a")
		ctx, cancel := context.WithCancel(bg)
		impatient, patient := w.start(ctx, "Kept/a.Change"), w.start(bg, "Kept/a.Change")
		synctest.Wait()
		if kept := ofType(w.survey(), "Kept"); kept.Queued != 2 {
			t.Errorf("%+v", kept)
		}
		cancel()
		synctest.Wait()
		if kept := ofType(w.survey(), "Kept"); kept.Queued != 1 || impatient.running() {
			t.Errorf("%+v", kept)
		}
		let()
		synctest.Wait()
		if kept := ofType(w.survey(), "Kept"); kept.Queued != 0 || patient.running() {
			t.Errorf("%+v", kept)
		}
	})
}

// The busiest objects are found among many, and nothing is said to be called more than it
// was by more than is said, too.
func TestSketch(t *testing.T) {
	var s sketch
	truth := map[object.Ref]uint64{}
	call := func(id string, n int) {
		for range n {
			ref := object.Ref{Type: "T", ID: id}
			truth[ref]++
			s.add(ref)
		}
	}
	for round := range 50 {
		for i := range 40 {
			call(fmt.Sprint("once", round, "-", i), 1)
		}
		call("hot", 30)
		call("warm", 20)
	}
	if len(s.list) != deskObjects || len(s.place) != deskObjects {
		t.Fatalf("%d objects, %d places", len(s.list), len(s.place))
	}
	found := map[string]bool{}
	for i, o := range s.list {
		if s.place[o.ref] != i || o.calls < truth[o.ref] || o.calls-o.excess > truth[o.ref] {
			t.Errorf("%+v at %d, in truth %d", o, s.place[o.ref], truth[o.ref])
		}
		found[o.ref.ID] = true
	}
	if !found["hot"] || !found["warm"] {
		t.Error("the busiest are not there")
	}
}

// Callers beyond what one desk keeps apart are still counted.
func TestEdgesAreBounded(t *testing.T) {
	var d desk
	typ := &object.Type{Options: object.Options{Name: "T"}}
	for i := range 3 * deskEdges {
		d.note(&deskCall{ref: object.Ref{Type: "T", ID: "x"}, typ: typ, from: caller{kind: fmt.Sprint("F", i)}})
	}
	var sum uint64
	for _, calls := range d.edges {
		sum += calls
	}
	if sum != 3*deskEdges || len(d.edges) > deskEdges+1 || d.edges[edge{peer.FromOther, typ}] != 2*deskEdges {
		t.Errorf("%d edges with %d calls", len(d.edges), sum)
	}
}

// Gates report, are told whether somebody looks, and are forgotten.
func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		if watched, err := w.Report(bg, peer.GateSurvey{Address: "g:1", Since: 3, Clients: 7}); watched || err != nil {
			t.Fatal(watched, err)
		}
		time.Sleep(time.Second)
		if gates := w.survey().Gates; len(gates) != 1 || gates[0] != (peer.GateSurvey{Address: "g:1", Since: 3, Clients: 7, Ago: time.Second}) {
			t.Errorf("%+v", gates)
		}
		if watched, err := w.Report(bg, peer.GateSurvey{Address: "g:2"}); !watched || err != nil {
			t.Error(watched, err)
		}
		if _, err := w.Report(bg, peer.GateSurvey{}); fault.KindOf(err) != fault.Invalid {
			t.Error(err)
		}
		for i := range 2 * maxReports {
			_, _ = w.Report(bg, peer.GateSurvey{Address: fmt.Sprint("more:", i)})
		}
		if gates := w.survey().Gates; len(gates) != maxReports {
			t.Errorf("%d gates", len(gates))
		}
		time.Sleep(reportFor + time.Second)
		if gates := w.survey().Gates; len(gates) != 0 {
			t.Errorf("%+v", gates)
		}
	})
}

// What counting costs a call, and that it costs nothing when nobody looks.
func BenchmarkCensus(b *testing.B) {
	for _, watched := range []bool{false, true} {
		b.Run(fmt.Sprint("watched=", watched), func(b *testing.B) {
			n := New(Config{Address: "n:1", NumShards: shards, Types: object.NewTypes()})
			typ := &object.Type{Options: object.Options{Name: "T"}}
			if watched {
				n.census.watch()
			}
			defer n.census.end()
			d := deskCall{ref: object.Ref{Type: "T", ID: "general"}, typ: typ, from: caller{kind: peer.FromClient}, reached: true, took: time.Millisecond}
			b.ReportAllocs()
			for b.Loop() {
				if c := n.census.count.Load(); c != nil {
					d.began = time.Now()
					c.desk(d.ref).note(&d)
				}
			}
		})
	}
}
