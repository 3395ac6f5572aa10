package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// limitsHeard counts the limits that a node tells of.
type limitsHeard struct {
	mu   sync.Mutex
	seen map[string]int // "limit of id"
}

func (h *limitsHeard) setup(_ *world, cfg *Config) {
	cfg.Listener.LimitReached = func(e event.LimitReached) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.seen == nil {
			h.seen = map[string]int{}
		}
		h.seen[fmt.Sprintf("%v of %s", e.Limit, e.ID)]++
	}
}

func (h *limitsHeard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, what := range slices.Sorted(maps.Keys(h.seen)) {
		all = append(all, fmt.Sprintf("%d %s", h.seen[what], what))
	}
	return strings.Join(all, ", ")
}

// Each limit of a node is told of when a call comes up against it, once for each call.
func TestLimitsAreTold(t *testing.T) {
	refused := func(t *testing.T, err error) {
		t.Helper()
		isFault(t, err, fault.Overloaded, fault.NotExecuted)
	}
	for _, c := range []struct {
		limit  event.Limit
		setup  []any
		breach func(t *testing.T, w *world) (told string)
	}{
		{event.Executions, []any{func(_ *world, cfg *Config) { cfg.MaxExecutions = 2 }}, func(t *testing.T, w *world) string {
			all, let := crowd(w, 2, func(context.Context, *Thing) error { return nil })
			_, err := w.call(bg, "x.Change")
			refused(t, err)
			refused(t, w.create(bg, "y"))
			let()
			for _, p := range all {
				p.wait()
			}
			return "1 executions of x, 1 executions of y"
		}},
		{event.QueueCalls, []any{object.WithMaxQueue(2)}, func(t *testing.T, w *world) string {
			let := w.blocked("x")
			first, second := w.startSized(bg, 10), w.startSized(bg, 10)
			refused(t, w.sendSized(bg, "x", sized(10)))
			nested := w.startSized(chainOf("Kept", "caller", 0), 10) // instead of the newest
			let()
			first.wait()
			_, err := second.wait()
			refused(t, err)
			nested.wait()
			return "2 queue_calls of x"
		}},
		{event.QueueBytes, nil, func(t *testing.T, w *world) string {
			let := w.blocked("x")
			first, second := w.startSized(bg, 1<<21), w.startSized(bg, 1<<20)
			refused(t, w.sendSized(bg, "x", sized(1<<21)))
			nested := w.startSized(chainOf("Kept", "caller", 0), 1<<21)
			let()
			first.wait()
			_, err := second.wait()
			refused(t, err)
			nested.wait()
			return "2 queue_bytes of x"
		}},
		{event.QueueTime, nil, func(t *testing.T, w *world) string {
			seconds, done := shower(3*time.Second, 5*time.Millisecond, func(int) error {
				_, err := w.call(bg, "Kept/x.Change", work(t, 10*time.Millisecond))
				return err
			})
			done()
			n := 0
			for _, s := range seconds {
				n += s.ended[fault.Overloaded]
			}
			if n == 0 {
				t.Error("nobody was sent away")
			}
			return fmt.Sprintf("%d queue_time of x", n)
		}},
		{event.ParkedCalls, []any{object.WithMaxQueue(1)}, func(t *testing.T, w *world) string {
			w.must(w.Vacate(bg, 5, Move{}))
			first := w.start(bg, "Kept/shard#5/x.Change")
			synctest.Wait()
			_, err := w.call(bg, "Kept/shard#5/x.Change")
			isFault(t, err, fault.Draining, fault.NotExecuted)
			w.Resume(allShards())
			first.wait()
			return "1 parked_calls of shard#5/x"
		}},
		{event.DeadlineBefore, nil, func(t *testing.T, w *world) string {
			let := w.blocked("x")
			ctx, cancel := within(time.Second)
			defer cancel()
			canceled, stop := context.WithCancel(bg)
			gone := w.start(canceled, "Kept/x.Change") // is no matter of time
			synctest.Wait()
			stop()
			gone.wait()
			_, err := w.call(ctx, "Kept/x.Change")
			isFault(t, err, fault.Deadline, fault.NotExecuted)
			_, err = w.call(ctx, "Kept/y.Change")
			isFault(t, err, fault.Deadline, fault.NotExecuted)
			let()
			return "1 deadline_before of x, 1 deadline_before of y"
		}},
		{event.DeadlineBehind, []any{kept}, func(t *testing.T, w *world) string {
			let := w.hold()
			ctx, cancel := within(time.Second)
			defer cancel()
			_, err := w.call(ctx, "x.Change")
			isFault(t, err, fault.Deadline, fault.OutcomeUnknown)
			let()
			return "1 deadline_behind of x"
		}},
		{event.StateBytes, []any{kept}, func(t *testing.T, w *world) string {
			w.stateOf(MaxStateBytes)
			_, err := w.call(bg, "x.Change")
			isFault(t, err, fault.TooLarge, fault.NotExecuted)
			return "1 state_bytes of x"
		}},
		{event.LargeState, []any{kept}, func(t *testing.T, w *world) string {
			w.stateOf(largeState / 2)
			_, err := w.call(bg, "y.Change")
			w.must(err)
			w.stateOf(largeState)
			_, err = w.call(bg, "x.Change")
			w.must(err)
			return "1 large_state of x"
		}},
		{event.ObjectID, nil, func(t *testing.T, w *world) string {
			_, err := w.call(bg, "Kept/.Change")
			isFault(t, err, fault.Invalid, fault.NotExecuted)
			return "1 object_id of "
		}},
		{event.Activations, []any{atMost(1)}, func(t *testing.T, w *world) string {
			let := w.blocked("x")
			_, err := w.call(bg, "Kept/y.Change")
			refused(t, err)
			let()
			return "1 activations of y"
		}},
		{event.MessageBytes, nil, func(t *testing.T, w *world) string {
			large := object.OfMessage(wrapperspb.String(*sized(5 << 20)))
			_, err := w.Call(bg, object.Call{Ref: object.Ref{Type: "Kept", ID: "x"}, Method: "Change", OneWay: true, Payload: large})
			isFault(t, err, fault.TooLarge, fault.NotExecuted)
			return "1 message_bytes of x"
		}},
	} {
		bubble(t, c.limit.String(), func(t *testing.T) {
			var heard limitsHeard
			w := start(t, append(c.setup, heard.setup)...)
			want := c.breach(t, w)
			synctest.Wait()
			if got := heard.String(); got != want {
				t.Errorf("it told of %q, want %q", got, want)
			}
		})
	}
}

// Nobody listens: nothing is made for the event.
func TestALimitThatNobodyHearsOf(t *testing.T) {
	n := New(Config{Address: "n:1", Types: object.NewTypes()})
	err := fault.New(fault.Deadline, "late").With(fault.NotExecuted)
	if got := testing.AllocsPerRun(100, func() { n.sayLimit(object.Ref{}, err); n.reached(event.Memory, object.Ref{}) }); got > 0 {
		t.Errorf("%v allocations", got)
	}
}

// blocked begins a method of a Kept that runs until let.
func (w *world) blocked(id string) (let func()) {
	b := newBlock()
	p := w.start(bg, "Kept/"+id+".Change", b.run)
	<-b.entered
	return sync.OnceFunc(func() { close(b.let); p.wait() })
}

// stateOf makes every object's state a text of so many bytes.
func (w *world) stateOf(bytes int) {
	state := wrapperspb.String(strings.Repeat("x", bytes))
	w.set(func(h *hooks) { h.toData = func(*Thing) (proto.Message, error) { return state, nil } })
}
