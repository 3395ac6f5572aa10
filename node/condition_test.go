package node

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/object"
)

func (w *world) condition() *Condition {
	w.t.Helper()
	c, err := w.Condition(bg)
	w.must(err)
	return c
}

// What goes on, in the words of /debug/goverse.
func TestCondition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, kept)
		w.want(bg, "Thing/shard#5/idle.Change", 1)
		letCommit := w.hold()
		saving := w.start(bg, "Kept/shard#4/saving.Change")
		letRun := make(chan struct{})
		runs := w.start(bg, "Thing/shard#3/busy.Change", func(context.Context, *Thing) error { <-letRun; return nil })
		synctest.Wait()
		for range 3 {
			w.start(bg, "Thing/shard#3/busy.Change")
		}
		w.must(w.Push(bg, object.Push{ClientIDs: []string{"gate:1/a"}, Message: wrapperspb.String("canary")}))
		time.Sleep(25 * time.Second) // the sweep sees it after ten
		w.slots[3].beginDrain()
		time.Sleep(2 * time.Second)
		got, err := json.Marshal(w.condition())
		w.must(err)
		const want = `{"shards":{"open":15,"draining":1,"leaving":0,"moving":[{"shard":3,"state":"draining","seconds":2,"objects":1,"parked":3}],` +
			`"parked":3,"parked_bytes":3,"staged_bytes":0},` +
			`"objects":{"live":3,"max":1000000,"types":[` +
			`{"type":"Kept","loading":0,"live":1,"closing":0,"running":0,"queued":0,"unsaved":1,"activations":1},` +
			`{"type":"Thing","loading":0,"live":1,"closing":1,"running":1,"queued":0,"unsaved":0,"activations":2}]},` +
			`"executions":{"in_flight":2,"limit":8192,"max":8192},` +
			`"running":[{"type":"Thing","id":"shard#3/busy","method":"Change","seconds":17}],"queues":[],` +
			`"outlets":[{"gate":"gate:1","connected":false,"waiting":1,"bytes":112,"sent":0,"sent_bytes":0}],"outlets_in_all":1,"pushes":1}`
		if string(got) != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		close(letRun)
		letCommit()
		for _, p := range []*pending{saving, runs} {
			_, err := p.wait()
			w.must(err)
		}
	})
}

// Calls that wait for a turn are told by object, the longest queue first, and no more than
// there is room for.
func TestConditionOfQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		let := make(chan struct{})
		var all []*pending
		const objects = maxToldQueues + 5
		for i := range objects {
			target := fmt.Sprintf("Thing/o%02d.Change", i)
			all = append(all, w.start(bg, target, func(context.Context, *Thing) error { <-let; return nil }))
			synctest.Wait()
			for range i {
				all = append(all, w.start(bg, target))
			}
		}
		synctest.Wait()
		time.Sleep(time.Second)
		c := w.condition()
		if len(c.Queues) != maxToldQueues || len(c.Running) != maxToldRunning {
			t.Fatalf("%d queues and %d running methods", len(c.Queues), len(c.Running))
		}
		for i, q := range c.Queues {
			if most := objects - 1 - i; q.ID != fmt.Sprintf("o%02d", most) || q.Waiting != most || q.Bytes != most || q.Seconds != 1 {
				t.Errorf("%d: %+v", i, q)
			}
		}
		if thing := c.Objects.Types[0]; thing.Running != objects || thing.Queued != objects*(objects-1)/2 {
			t.Errorf("%+v", thing)
		}
		close(let)
		for _, p := range all {
			_, err := p.wait()
			w.must(err)
		}
	})
}

// Whoever has left is not looked around for, and one asker looks at a time.
func TestConditionOneAtATime(t *testing.T) {
	w := start(t)
	w.census.pages <- struct{}{}
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if c, err := w.Condition(ctx); err == nil {
		t.Errorf("%+v", c)
	}
	<-w.census.pages
	if c, err := w.Condition(ctx); err == nil {
		t.Errorf("%+v", c)
	}
	w.condition()
}
