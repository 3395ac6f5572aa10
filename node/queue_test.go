package node

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// sized is a request of so many bytes, up to a few.
func sized(bytes int) *string {
	text := strings.Repeat("x", bytes-5)
	return &text
}

// startSized calls Change of Kept/x beside the test, and lets it come to its wait.
func (w *world) startSized(ctx context.Context, bytes int) *pending {
	p := begin(func() (int64, error) { return 0, w.sendSized(ctx, "x", sized(bytes)) })
	synctest.Wait()
	return p
}

// wantRefused demands that a call found no room, unrun, and was told why and when to come
// again.
func wantRefused(t *testing.T, err error, why string) {
	t.Helper()
	isFault(t, err, fault.Overloaded, fault.NotExecuted)
	if err != nil && (fault.Of(err).RetryAfter != overloadRetry || !strings.Contains(err.Error(), why)) {
		t.Errorf("%v; want %q, and when to come again", err, why)
	}
}

// The requests that wait for one object are bounded by their bytes, too. One alone always
// finds room.
func TestTheBytesInAQueueAreBounded(t *testing.T) {
	const bytes = "bytes of requests already wait"
	for _, c := range []struct {
		name  string
		first []int // what finds room
		then  []int // what does not
		waits int   // bytes, about
	}{
		{"many", []int{1 << 20, 1 << 20, 1 << 20, 1<<20 - 100}, []int{200, 1 << 20, 5 << 20}, 4<<20 - 100},
		{"one alone", []int{6 << 20}, []int{6, 6 << 20}, 6 << 20},
		{"small ones go beside", []int{4<<20 - 1000, 100, 100}, []int{2000}, 4<<20 - 800},
	} {
		bubble(t, c.name, func(t *testing.T) {
			w := start(t)
			b := newBlock()
			inside := w.start(bg, "Kept/x.Change", b.run)
			<-b.entered
			var queued []*pending
			for _, n := range c.first {
				queued = append(queued, w.startSized(bg, n))
			}
			for _, n := range c.then {
				wantRefused(t, w.sendSized(bg, "x", sized(n)), bytes)
			}
			if got := w.bytesWaiting("x"); got > c.waits || got < c.waits-5*len(c.first) {
				t.Errorf("%d bytes wait", got)
			}
			w.must(w.sendSized(bg, "y", sized(4<<20))) // others are not concerned
			close(b.let)
			inside.wait()
			for _, p := range queued {
				if _, err := p.wait(); err != nil {
					t.Error(err)
				}
			}
			w.want(bg, "Kept/x.Read", int64(len(c.first))+1)
			w.must(w.sendSized(bg, "x", sized(5<<20)))
		})
	}
}

// bytesWaiting is what the queue of a Kept counts.
func (w *world) bytesWaiting(id string) int {
	s, err := w.slotOf(id)
	w.must(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.acts.find(object.Ref{Type: "Kept", ID: id})
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.turns.backlog == nil {
		return 0
	}
	return a.turns.bytes
}

// A call of a chain that is inside takes the room of the newest root calls, of as many as
// it needs, and of none if they are not enough.
func TestANestedCallTakesTheRoomOfRootCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		b := newBlock()
		inside := w.start(bg, "Kept/x.Change", b.run)
		<-b.entered
		var roots []*pending
		for range 4 {
			roots = append(roots, w.startSized(bg, 1<<20))
		}
		nested := w.startSized(chainOf("Kept", "caller", 0), 3<<19)
		for i, p := range roots {
			if waits := i < 2; p.running() != waits {
				t.Errorf("root call %d waits: %v", i, !waits)
			} else if !waits {
				wantRefused(t, p.err, "bytes of requests already wait")
			}
		}
		wantRefused(t, w.sendSized(chainOf("Kept", "another", 0), "x", sized(3<<20)), "bytes of requests already wait")
		if !roots[0].running() || !roots[1].running() || !nested.running() {
			t.Error("somebody was sent away in vain")
		}
		close(b.let)
		inside.wait()
		for _, p := range []*pending{roots[0], roots[1], nested} {
			if _, err := p.wait(); err != nil {
				t.Error(err)
			}
		}
		w.want(bg, "Kept/x.Read", 4)
	})
}

// Whatever becomes of those who wait, the queue knows their bytes.
func TestAQueueCountsItsBytes(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var q turnstile
		for range dice.IntN(40) {
			switch n := len(q.waiting()); dice.IntN(8) {
			case 0:
				if n > 0 {
					q.remove(dice.IntN(n))
				}
			case 1:
				if n > 0 {
					q.weed(1+dice.IntN(n), func(*waiter) bool { return dice.IntN(2) == 0 })
				}
			case 2:
				if most, weight := 1+dice.IntN(20), 1+dice.IntN(2<<20); n > 0 && q.crowded(most, weight) != nil {
					before := n
					made := q.displace(most, weight, nil)
					if made != (q.crowded(most, weight) == nil) || !made && len(q.queue) != before {
						t.Fatalf("room was made: %v, of %d waiters %d are left", made, before, len(q.queue))
					}
				}
			case 3:
				if dice.IntN(5) == 0 {
					q.sendAway(nil)
				}
			default:
				q.add(&waiter{weight: 1 + dice.IntN(1<<20), parks: dice.IntN(3) > 0, done: make(chan struct{})})
			}
			sum := 0
			for _, w := range q.waiting() {
				sum += w.weight
			}
			if q.backlog != nil && q.bytes != sum {
				t.Fatalf("%d bytes are counted of %d", q.bytes, sum)
			}
		}
	}
}
