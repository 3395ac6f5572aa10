// Package cluster tests what a program sees of several nodes, in a simulated cluster
// and on real parts.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/goversetest"
	"github.com/xiaonanln/goverse/test/logbook"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func of(nodes int) goversetest.Cluster {
	return goversetest.Cluster{Nodes: nodes, Types: []goversetest.Type{
		goversetest.Of((*logbook.DurableLog)(nil)),
		goversetest.Of((*logbook.VolatileLog)(nil), goverseapi.WithDurability(goverseapi.Volatile)),
	}}
}

// apart is two ids of a type whose objects live on different nodes.
func apart(w *goversetest.World, typ string) (a, b string) {
	a = "0"
	for i := 1; ; i++ {
		if b = fmt.Sprint(i); w.Holder(typ+"/"+b) != w.Holder(typ+"/"+a) {
			return a, b
		}
	}
}

// Crossing is an object whose method calls another one once both have begun.
type Crossing struct{ goverseapi.BaseObject }

// both is closed when two methods have begun.
type both struct {
	begun atomic.Int32
	met   chan struct{}
}

var crossing atomic.Pointer[both]

// Cross waits for the other to begin and then calls it.
func (c *Crossing) Cross(ctx context.Context, e *logbook_pb.Entry) (*logbook_pb.Mark, error) {
	if e.GetVia() == "" {
		return &logbook_pb.Mark{}, nil
	}
	b := crossing.Load()
	if b.begun.Add(1) == 2 {
		close(b.met)
	}
	select {
	case <-b.met:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	_, err := goverseapi.CallObject(ctx, c.Type(), e.GetVia(), "Cross", &logbook_pb.Entry{})
	return &logbook_pb.Mark{}, err
}

// Two chains on two nodes, each of which holds what the other wants: one fails, soon
// and with the path, and the other goes on as if nothing had been.
func TestDeadlockAcrossNodes(t *testing.T) {
	two := goversetest.Cluster{Nodes: 2, Types: []goversetest.Type{goversetest.Of((*Crossing)(nil))}}
	goversetest.Run(t, two, func(w *goversetest.World) {
		crossing.Store(&both{met: make(chan struct{})})
		a, b := apart(w, "Crossing")
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		var errs [2]error
		var took [2]time.Duration
		var calling sync.WaitGroup
		for i, way := range [][2]string{{a, b}, {b, a}} {
			c := w.Connect()
			calling.Go(func() {
				began := time.Now()
				_, errs[i] = c.TryCallContext(ctx, "Crossing/"+way[0], "Cross", &logbook_pb.Entry{Via: way[1]})
				took[i] = time.Since(began)
			})
		}
		calling.Wait()
		failed := 0
		for i, err := range errs {
			if err == nil {
				continue
			}
			failed++
			if !errors.Is(err, goverseapi.ErrFailed) && !errors.Is(err, goverseapi.ErrCycle) {
				t.Errorf("%v", err)
			}
			if w.Simulated() && took[i] > 250*time.Millisecond {
				t.Errorf("it was found after %v", took[i])
			}
		}
		if failed != 1 {
			t.Errorf("%d of the two failed: %v", failed, errs)
		}
	})
}

// Chains that cross without a circle, many at a time, never fail as one.
func TestNoDeadlockIsImagined(t *testing.T) {
	goversetest.Sim(t, of(3), func(w *goversetest.World) {
		var calling sync.WaitGroup
		for i := range 8 {
			c := w.Connect()
			calling.Go(func() {
				for n := range 30 {
					from := (i + n) % 9
					e := &logbook_pb.Entry{Id: fmt.Sprint(i, "-", n), WorkMicros: 30000, Via: fmt.Sprint(from + 1)}
					if _, err := c.TryCall(fmt.Sprintf("VolatileLog/%d", from), "Append", e); err != nil {
						t.Error(err)
					}
				}
			})
		}
		calling.Wait()
	})
}

// Live state follows its object from node to node, and so does a caller.
func TestStateMoves(t *testing.T) {
	goversetest.Run(t, of(2), func(w *goversetest.World) {
		c := w.Connect()
		want := 0
		add := func() {
			want++
			for _, typ := range []string{"VolatileLog", "DurableLog"} {
				for i := range 10 {
					ref := fmt.Sprintf("%s/%d", typ, i)
					mark := c.Call(ref, "Append", &logbook_pb.Entry{Id: fmt.Sprint(want)}).(*logbook_pb.Mark)
					if mark.Length != int64(want) {
						t.Fatalf("%s has %d entries, want %d", ref, mark.Length, want)
					}
				}
			}
		}
		add()
		third := w.AddNode()
		w.Settle()
		add()
		w.Stop("node1")
		add()
		w.Stop("node2")
		add()
		if got := w.Holder("VolatileLog/3"); got != third {
			t.Errorf("VolatileLog/3 lives on %q", got)
		}
		w.Restart(third)
		reply := c.Call("VolatileLog/3", "Read", &logbook_pb.ReadRequest{})
		if !proto.Equal(reply, &logbook_pb.Page{}) {
			t.Errorf("the only node was restarted, and a volatile log has %v", reply)
		}
	})
}

// An object that is pinned to a node is there, also on a node that came late and holds
// nothing yet, and nowhere else.
func TestPinned(t *testing.T) {
	goversetest.Run(t, of(2), func(w *goversetest.World) {
		c := w.Connect()
		for _, n := range w.Nodes() {
			id := goverseapi.CreateObjectIDOnNode(w.Address(n))
			if mark := c.Call("VolatileLog/"+id, "Append", &logbook_pb.Entry{Id: "x"}).(*logbook_pb.Mark); mark.Length != 1 {
				t.Errorf("%v", mark)
			}
			if w.Holder("VolatileLog/"+id) != n {
				t.Errorf("%s is on %s", id, w.Holder("VolatileLog/"+id))
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := c.TryCallContext(ctx, "VolatileLog/nowhere:1/x", "Append", &logbook_pb.Entry{Id: "x"})
		if err == nil || w.Simulated() && goverseapi.OutcomeOf(err) != goverseapi.NotExecuted {
			t.Errorf("pinned to nobody: %v", err)
		}
	})
}
