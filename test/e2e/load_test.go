//go:build unix

package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/client/goverseclient"
	"github.com/xiaonanln/goverse/test/logbook"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

// load appends to logs at a steady rate, whatever becomes of the calls before: calls
// that are slow do not make fewer calls. Latencies count from when a call was due.
type load struct {
	client  *goverseclient.Client
	history *logbook.History
	objects int
	stop    context.CancelFunc
	calling sync.WaitGroup

	mu   sync.Mutex // protects following field
	took []time.Duration
}

const callTimeout = 15 * time.Second

// newLoad begins to call; every other object is durable.
func newLoad(t *testing.T, gates []string, rate, objects int) *load {
	t.Helper()
	c, err := goverseclient.NewClient(gates, goverseclient.WithCallTimeout(callTimeout))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Connect(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	l := &load{client: c, history: logbook.NewHistory(), objects: objects}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	l.calling.Go(func() { l.run(ctx, time.Second/time.Duration(rate)) })
	t.Cleanup(func() { l.end(); c.Close() })
	return l
}

func (l *load) run(ctx context.Context, every time.Duration) {
	due := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		due = due.Add(every)
		if d := time.Until(due); d > 0 {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return
			}
		}
		was := due
		l.calling.Go(func() { l.append(n, was) })
	}
}

// ref is the log that call n is about.
func (l *load) ref(n int) (typ, id string) {
	n = n * 2654435761 % l.objects // each in turn, in an order that is none
	if n%2 == 0 {
		return "DurableLog", fmt.Sprint(n)
	}
	return "VolatileLog", fmt.Sprint(n)
}

func (l *load) append(n int, due time.Time) {
	typ, id := l.ref(n)
	a := logbook.Append{ID: fmt.Sprint(n), Began: time.Now()}
	reply, err := l.client.CallObject(context.Background(), typ, id, "Append", &logbook_pb.Entry{Id: a.ID})
	a.Ended, a.Err = time.Now(), err
	if err == nil {
		a.Mark = reply.(*logbook_pb.Mark)
	}
	l.history.Add(typ+"/"+id, a)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, a.Ended.Sub(due))
}

// end waits for the calls that are on their way.
func (l *load) end() {
	l.stop()
	l.calling.Wait()
}

// latencies is the p50, the p99 and the worst so far.
func (l *load) latencies() (p50, p99, worst time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.took) == 0 {
		return
	}
	slices.Sort(l.took)
	at := func(q float64) time.Duration { return l.took[int(q*float64(len(l.took)-1))] }
	return at(0.5), at(0.99), at(1)
}

// judge compares what the callers were told with the final logs. lossy says which logs
// may have lost what they had.
func (l *load) judge(t *testing.T, lossy func(ref string) bool) {
	t.Helper()
	l.end()
	final := map[string][]string{}
	for n := range l.objects {
		typ, id := l.ref(n)
		reply, err := l.client.CallObject(within(t, callTimeout), typ, id, "Read", &logbook_pb.ReadRequest{})
		if err != nil {
			t.Fatalf("read %s/%s: %v", typ, id, err)
		}
		final[typ+"/"+id] = reply.(*logbook_pb.Page).GetIds()
	}
	problems := l.history.Check(final, lossy)
	for _, p := range problems[:min(len(problems), 20)] {
		t.Error(p)
	}
}

func never(string) bool { return false }
