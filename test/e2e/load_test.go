//go:build unix

package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/client/goverseclient"
	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/test/logbook"
	"github.com/xiaonanln/goverse/test/logbook/linear"
	logbook_pb "github.com/xiaonanln/goverse/test/logbook/proto"
)

// load appends to logs at a steady rate, whatever becomes of the calls before: calls
// that are slow do not make fewer calls. Latencies count from when a call was due.
type load struct {
	clients []*goverseclient.Client // each in turn, a round of the objects each
	history *logbook.History
	name    string // of its entries and its objects
	objects int
	from    int // the number of its first call
	detours int // every so many calls go by way of another log; 0 is none
	stop    context.CancelFunc
	calling sync.WaitGroup

	mu   sync.Mutex // protects following fields
	took []time.Duration
	vias map[string]string // by entry: the log that it went through
	seen map[string]told   // by log and entry
	open map[int]time.Time // calls that have no answer yet, and when they were made
}

// told is an append as its caller saw it, and how it went.
type told struct {
	call int
	logbook.Append
}

const callTimeout = 15 * time.Second

// newLoad begins to call; every other object is durable.
func newLoad(t *testing.T, gates []string, rate, objects int) *load {
	t.Helper()
	l := &load{objects: objects}
	l.begin(t, rate, gates)
	return l
}

// begin calls through the doors, each some gates.
func (l *load) begin(t *testing.T, rate int, doors ...[]string) {
	t.Helper()
	l.history, l.vias, l.seen = logbook.NewHistory(), map[string]string{}, map[string]told{}
	l.open = map[int]time.Time{}
	for _, gates := range doors {
		c, err := goverseclient.NewClient(gates, goverseclient.WithCallTimeout(callTimeout))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Connect(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		l.clients = append(l.clients, c)
	}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	l.calling.Go(func() { l.run(ctx, time.Second/time.Duration(rate)) })
	t.Cleanup(l.end)
}

func (l *load) run(ctx context.Context, every time.Duration) {
	due := time.Now()
	for n := l.from; ctx.Err() == nil; n++ {
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
		return "DurableLog", fmt.Sprint(l.name, n)
	}
	return "VolatileLog", fmt.Sprint(l.name, n)
}

// via is the log through which call n goes, of the same type, or "". It is always a
// later one, so that no calls go in a circle.
func (l *load) via(n int) string {
	place := n * 2654435761 % l.objects
	if next := place + 2*(1+n%5); l.detours > 0 && (n+n/l.objects)%l.detours == 0 && next < l.objects {
		return fmt.Sprint(l.name, next)
	}
	return ""
}

// door is the client that makes call n.
func (l *load) door(n int) int { return n / l.objects % len(l.clients) }

func (l *load) append(n int, due time.Time) {
	typ, id := l.ref(n)
	via := l.via(n)
	a := logbook.Append{ID: fmt.Sprint(l.name, n), Began: time.Now()}
	l.mu.Lock()
	l.open[n] = a.Began
	l.mu.Unlock()
	reply, err := l.clients[l.door(n)].CallObject(context.Background(), typ, id, "Append", &logbook_pb.Entry{Id: a.ID, Via: via})
	a.Ended, a.Err = time.Now(), err
	if err == nil {
		a.Mark = reply.(*logbook_pb.Mark)
	}
	ref := typ + "/" + id
	l.history.Add(ref, a)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, n)
	l.took = append(l.took, a.Ended.Sub(due))
	l.seen[ref+" "+a.ID] = told{n, a}
	if via != "" && err == nil {
		l.vias["via-"+a.ID] = typ + "/" + via
	}
}

// end waits for the calls that are on their way.
func (l *load) end() {
	l.stop()
	l.calling.Wait()
}

// await waits until no call is open that was made before a moment.
func (l *load) await(before time.Time) {
	for l.opened(before) {
		time.Sleep(10 * time.Millisecond) // between two looks; every call has its end
	}
}

func (l *load) opened(before time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, made := range l.open {
		if made.Before(before) {
			return true
		}
	}
	return false
}

// each calls f with every call that has ended.
func (l *load) each(f func(told)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.seen {
		f(c)
	}
}

// well says whether the caller of an append was told that it went well.
func (l *load) well(ref, entry string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, there := l.seen[ref+" "+entry]
	return there && c.Err == nil || l.vias[entry] == ref
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
	final, orders := map[string][]string{}, l.orders(lossy)
	for n := range l.objects {
		typ, id := l.ref(n)
		began := time.Now()
		reply, err := l.clients[0].CallObject(within(t, callTimeout), typ, id, "Read", &logbook_pb.ReadRequest{})
		if err != nil {
			t.Fatalf("read %s/%s: %v", typ, id, err)
		}
		ref, page := typ+"/"+id, reply.(*logbook_pb.Page).GetIds()
		final[ref] = page
		if !lossy(ref) {
			orders[ref] = append(orders[ref], linear.Read(began, time.Now(), page))
		}
	}
	problems := l.history.Check(final, lossy)
	for entry, ref := range l.vias {
		if !lossy(ref) && !slices.Contains(final[ref], entry) {
			problems = append(problems, fmt.Sprintf("%s: %s is lost, of which its sender was told that it is there", ref, entry))
		}
	}
	began := time.Now()
	problems = append(problems, orders.Check(30*time.Second)...)
	t.Logf("%d logs have an order, found in %v", len(orders), time.Since(began).Round(time.Millisecond))
	for _, p := range problems[:min(len(problems), 20)] {
		t.Error(p)
	}
}

// orders is the calls of the logs that are not lossy, those by way of another log among
// them.
func (l *load) orders(lossy func(ref string) bool) linear.Histories {
	all := linear.Of(l.history)
	l.each(func(c told) {
		if via := l.via(c.call); via != "" && (c.Err == nil || goverseapi.OutcomeOf(c.Err) != goverseapi.NotExecuted) {
			typ, _ := l.ref(c.call)
			ref := typ + "/" + via
			all[ref] = append(all[ref], linear.Through(c.Append, "via-"))
		}
	})
	maps.DeleteFunc(all, func(ref string, _ []linear.Call) bool { return lossy(ref) })
	return all
}

func never(string) bool { return false }

func volatile(ref string) bool { return ref[0] == 'V' }
